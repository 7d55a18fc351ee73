//! A log's file: appended to, rotated by size, opened anew when somebody has moved it away.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;

/// When a file is put aside, and how many of those are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes from which on another file is begun.
    pub size: u64,
    /// Files put aside that are kept, the newest as `.1`.
    pub keep: u32,
}

/// A file's device and number.
type Place = (u64, u64);

/// The file.
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// Which file that is.
    place: Place,
    size: u64,
    rotation: Option<Rotation>,
    /// Whether what stands at its end is a whole line.
    ends_whole: bool,
}

impl LogFile {
    /// Opens the file to append to it, and makes it if there is none, for this user alone to read.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(path: PathBuf, rotation: Option<Rotation>) -> io::Result<Self> {
        let file = opened(&path, true)?;
        fcntl_setfl(&file, OFlags::APPEND)?;
        let metadata = file.metadata()?;
        can_be_put_aside(&path, &metadata, rotation.is_some())?;
        let size = metadata.len();
        Ok(Self {
            place: place(&metadata),
            size,
            ends_whole: ends_whole(&path, size),
            path,
            file,
            rotation,
        })
    }

    /// Whether there is a file, which can be opened so. Where there is none, none is made.
    ///
    /// # Errors
    /// When there is one that cannot be opened or, where it `rotates`, not be put aside, or nobody can tell.
    pub fn is_there(path: &Path, rotates: bool) -> io::Result<bool> {
        match opened(path, false) {
            Ok(file) => {
                can_be_put_aside(path, &file.metadata()?, rotates)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes lines, and says how many bytes of them were written. Who is given less than all may try again with the
    /// rest.
    pub(super) fn write(&mut self, text: &[u8]) -> (usize, io::Result<()>) {
        if let Err(error) = self.mend() {
            return (0, Err(error));
        }
        let (written, outcome) = write_counting(&mut self.file, text);
        self.size += written as u64;
        if let Some(last) = text.get(..written).and_then(<[u8]>::last) {
            self.ends_whole = *last == b'\n';
        }
        (written, outcome)
    }

    /// Ends a line that was not written whole: what follows is to begin on a line of its own.
    fn mend(&mut self) -> io::Result<()> {
        if !self.ends_whole {
            self.file.write_all(b"\n")?;
            self.size += 1;
            self.ends_whole = true;
        }
        Ok(())
    }

    /// Has all that was written kept through a crash of the machine.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Puts a file aside that is large enough, and opens another where somebody has moved it away. Between two lines
    /// alone. Where no file can be put aside, what is written goes on to the one that there is, and the fault is
    /// handed over.
    ///
    /// # Errors
    /// When nobody would find what is written: the file is away, and there can be no other.
    pub(super) fn turn(&mut self) -> io::Result<Option<io::Error>> {
        let there = fs::metadata(&self.path).ok();
        let Some(there) = there.filter(|there| place(there) == self.place) else {
            return self.reopen().map(|()| None);
        };
        // Somebody may have copied it and made it empty.
        self.size = there.len();
        match self.rotation {
            Some(rotation) if self.size >= rotation.size => {
                match put_aside(&self.path, rotation.keep) {
                    Ok(()) => self.reopen().map(|()| None),
                    Err(error) => Ok(Some(error)),
                }
            }
            Some(_) | None => Ok(None),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(self.path.clone(), self.rotation)?;
        Ok(())
    }
}

/// To put a pipe or a device aside would take it away from everybody else; a link would be put aside without its file.
fn can_be_put_aside(path: &Path, metadata: &fs::Metadata, rotates: bool) -> io::Result<()> {
    let what = match (metadata.is_file(), path.is_symlink()) {
        _ if !rotates => return Ok(()),
        (true, false) => return Ok(()),
        (true, true) => "it is a link",
        (false, _) => "it is a pipe or a device",
    };
    Err(io::Error::other(format!(
        "{what}, which `rotate` cannot put aside"
    )))
}

/// The file, opened to append to it.
fn opened(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.append(true).create(create).mode(0o600);
    // A pipe that nobody reads would be waited for, and the gateway would not start.
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let opened = options.custom_flags(at_once).open(path);
    opened.map_err(
        |error| match error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) {
            true => io::Error::other("it is a pipe that nobody reads"),
            false => error,
        },
    )
}

/// Writes, and says how many bytes of it were written.
pub(super) fn write_counting(out: &mut dyn io::Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, out.flush())
}

/// Moves a file to `.1`, the one there to `.2`, and so on; the last goes.
fn put_aside(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return fs::remove_file(path);
    }
    let aside = |number: u32| {
        let mut name = OsString::from(path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..keep).rev() {
        match fs::rename(aside(number), aside(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    fs::rename(path, aside(1))
}

fn place(metadata: &fs::Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

/// Whether the last byte ends a line. A process that was killed may have left half of one; what cannot be read, as a
/// pipe, counts as whole.
fn ends_whole(path: &Path, size: u64) -> bool {
    let last = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        io::Result::Ok(byte)
    };
    size == 0 || last().map_or(true, |byte| byte == *b"\n")
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    fn log(folder: &Path, size: u64, keep: u32) -> LogFile {
        let rotation = Some(Rotation { size, keep });
        LogFile::open(folder.join("log"), rotation).expect("a file")
    }

    fn files(folder: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        let mut files: Vec<_> = entries
            .map(|entry| {
                let text = fs::read_to_string(entry.path()).expect("text");
                (entry.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        files.sort();
        files
    }

    fn named(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let files = files.iter();
        files
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn a_file_that_is_large_enough_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = log(folder.path(), 4, 2);
        for line in ["one\n", "two\n", "six\n", "ten\n", "a\n"] {
            log.turn().expect("turned");
            let (written, outcome) = log.write(line.as_bytes());
            assert_eq!((written, outcome.is_ok()), (line.len(), true));
        }
        let expected = [("log", "a\n"), ("log.1", "ten\n"), ("log.2", "six\n")];
        assert_eq!(files(folder.path()), named(&expected));
    }

    #[test]
    fn a_file_that_was_made_empty_is_as_large_as_what_is_written_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = log(folder.path(), 8, 2);
        let _ = log.write(b"one and two\n");
        fs::write(folder.path().join("log"), "").expect("made empty");
        log.turn().expect("turned");
        let _ = log.write(b"six\n");
        assert_eq!(files(folder.path()), named(&[("log", "six\n")]));
    }

    #[test]
    fn what_is_no_file_is_not_put_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("log");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
        let mut options = OpenOptions::new();
        let _reader = options.read(true).write(true).open(&pipe).expect("open");
        assert!(LogFile::open(pipe.clone(), None).is_ok());
        let rotation = Some(Rotation { size: 1, keep: 1 });
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert!(LogFile::open(link.clone(), None).is_ok());
        for refused in [
            LogFile::open(link.clone(), rotation).err(),
            LogFile::is_there(&link, true).err(),
            LogFile::open(pipe.clone(), rotation).err(),
            LogFile::is_there(&pipe, true).err(),
        ] {
            let error = refused.expect("refused").to_string();
            assert!(error.contains("`rotate` cannot put aside"), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = log(folder.path(), 1000, 2);
        let _ = log.write(b"one\n");
        fs::rename(folder.path().join("log"), folder.path().join("moved")).expect("moved");
        log.turn().expect("turned");
        let _ = log.write(b"two\n");
        assert_eq!(
            files(folder.path()),
            named(&[("log", "two\n"), ("moved", "one\n")])
        );
    }

    #[test]
    fn where_nobody_would_find_what_is_written_there_is_no_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("below");
        fs::create_dir(&below).expect("a folder");
        let mut log = log(&below, 1000, 2);
        fs::remove_dir_all(&below).expect("removed");
        assert!(log.turn().is_err());
        fs::create_dir(&below).expect("a folder");
        assert!(matches!(log.turn(), Ok(None)));
        let _ = log.write(b"one\n");
        assert_eq!(files(&below), named(&[("log", "one\n")]));
    }

    #[test]
    fn a_pipe_is_a_log_as_soon_as_somebody_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("log");
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
        let error = LogFile::open(pipe.clone(), None).err().expect("no reader");
        assert_eq!(error.to_string(), "it is a pipe that nobody reads");
        // Opened to write, too, it waits for nobody.
        let mut options = OpenOptions::new();
        let mut reader = options.read(true).write(true).open(&pipe).expect("open");
        let mut log = LogFile::open(pipe, None).expect("a reader");
        // As much as a pipe holds, and more: it is waited until there is room.
        let line = "x".repeat(200_000) + "\n";
        let (length, writer) = (
            line.len(),
            std::thread::spawn(move || log.write(line.as_bytes())),
        );
        let mut read = vec![0; length];
        reader.read_exact(&mut read).expect("read");
        let (written, outcome) = writer.join().expect("written");
        assert_eq!(
            (written, outcome.is_ok(), read.last()),
            (length, true, Some(&b'\n'))
        );
    }

    #[test]
    fn half_a_line_at_the_end_is_ended_before_anything_follows() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("log"), "one\ntw").expect("written");
        let mut log = log(folder.path(), 1000, 2);
        let _ = log.write(b"six\n");
        assert_eq!(files(folder.path()), named(&[("log", "one\ntw\nsix\n")]));
    }
}
