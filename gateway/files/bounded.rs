//! Reading files that people name: so much of them, and without waiting for anybody.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// The first bytes of a file, `most` of them. A pipe is refused: whoever reads it waits for who writes it, for ever
/// perhaps.
///
/// # Errors
/// When it cannot be read, or is a pipe or a socket.
pub fn read_at_most(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    let without_waiting = OFlags::NONBLOCK.bits().cast_signed();
    options.read(true).custom_flags(without_waiting);
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_fifo() || kind.is_socket() {
        let why = "it is a pipe or a socket, and not a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A whole file that is no larger than `most` bytes.
///
/// # Errors
/// As [`read_at_most`], and when it is larger.
pub fn read_whole(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let bytes = read_at_most(path, most + 1)?;
    match bytes.len() > most {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} MiB", most >> 20),
        )),
        false => Ok(bytes),
    }
}

/// A file of CA certificates, of at most 4 MiB: all public ones together are a tenth of that.
///
/// # Errors
/// As [`read_whole`].
pub fn read_ca(path: &Path) -> io::Result<Vec<u8>> {
    const LARGEST: usize = 4 << 20;
    read_whole(path, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "0123456789").expect("written");
        assert_eq!(read_at_most(&file, 4).expect("read"), b"0123");
        assert_eq!(read_at_most(&file, 99).expect("read"), b"0123456789");
        assert_eq!(read_whole(&file, 10).expect("read"), b"0123456789");
        let why = read_whole(&file, 9).expect_err("refused");
        assert_eq!(why.kind(), io::ErrorKind::FileTooLarge);
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a pipe");
        let why = read_at_most(&pipe, 99).expect_err("refused");
        assert_eq!(why.kind(), io::ErrorKind::InvalidInput);
    }
}
