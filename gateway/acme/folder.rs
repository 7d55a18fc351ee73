//! The folder in which the account, certificates and what is under way are kept: the gateway's alone to read, and
//! shared by replicas. Each CA has a folder of its own in it, so that a change of CA loses and mixes up nothing.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use http::Uri;

use crate::files::read_whole;
use crate::ids;

use super::names::{plain, short_digest};

/// The largest file that is read, in bytes. What the gateway writes there is some KiB.
pub(super) const LARGEST: usize = 1 << 20;

/// What others than the owner and its group may do. The group is let in: Kubernetes gives volumes to one (`fsGroup`).
const OTHERS: u32 = 0o007;

/// One CA's part of the folder.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// Who holds it may order. It ends with the value, or with the process.
#[must_use]
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    /// Opens it, and makes it if it is missing.
    ///
    /// # Errors
    /// When others may read it, or the gateway cannot write to it.
    pub(super) fn open(root: &Path, directory: &Uri) -> io::Result<Self> {
        make(root)?;
        let folder = Self::of(root, directory);
        make(&folder.0)?;
        make(&folder.answers())?;
        folder.replace(".writable", b"")?;
        folder.remove(".writable")?;
        Ok(folder)
    }

    fn of(root: &Path, directory: &Uri) -> Self {
        let host = plain(&directory.host().unwrap_or_default().to_ascii_lowercase());
        let name = format!("{host}-{}", short_digest(&directory.to_string()));
        Self(root.join(name))
    }

    /// Whether it has been opened before, by whomever.
    pub(super) fn is_there(root: &Path, directory: &Uri) -> bool {
        Self::of(root, directory).answers().is_dir()
    }

    /// Where challenges' answers lie while an order is under way.
    pub(super) fn answers(&self) -> PathBuf {
        self.0.join("answers")
    }

    /// What a file holds. `None` where there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match read_whole(&self.0.join(name), LARGEST) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// The names of the files that end so.
    pub(super) fn files(&self, end: &str) -> Vec<String> {
        names(&self.0, end)
    }

    /// Puts a file in the place of what was there: a crash leaves the old one or the new one, never half of one.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        replace(&self.0, name, bytes)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.0.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            _ => Ok(()),
        }
    }

    /// Puts a file out of the way, and keeps it.
    pub(super) fn put_aside(&self, name: &str) -> io::Result<()> {
        fs::rename(self.0.join(name), self.0.join(format!("{name}.old")))
    }

    /// The right to order, among all that share the folder. `None` while another has it.
    pub(super) fn try_lock(&self) -> io::Result<Option<Lock>> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(false).mode(0o600);
        let file = options.open(self.0.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(cause)) => Err(cause),
        }
    }
}

/// Writes beside and renames; the folder is synced too, for without that a rename may not outlive a crash.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Replicas may write the same file at the same moment.
    let beside = folder.join(format!("{name}.{:016x}.new", ids::random_u128() >> 64));
    let mut options = OpenOptions::new();
    options.create_new(true).write(true).mode(0o600);
    let put = || {
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, folder.join(name))
    };
    put().inspect_err(|_| {
        // No other attempt has this name.
        let _ = fs::remove_file(&beside);
    })?;
    File::open(folder)?.sync_all()
}

/// The names of the files in a folder that end so; none where it cannot be read.
pub(super) fn names(folder: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(end)).collect()
}

/// Makes a folder that is nobody else's, unless it is there. One that others may enter is refused, for it is to hold
/// private keys.
fn make(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(folder)?;
    }
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} can be read by others (mode {:03o}), and is to hold private keys: `chmod 700` it, or mount it so",
            folder.display(),
            mode & 0o777
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn directory() -> Uri {
        Uri::from_static("https://ca.example/directory")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_nobody_elses_and_a_folder_of_others_is_refused() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path().join("deep/acme");
        assert!(!Folder::is_there(&root, &directory()));
        let folder = Folder::open(&root, &directory()).expect("opened");
        folder.replace("key.pem", b"Pl4nted").expect("written");
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&folder.0), 0o700);
        assert_eq!(mode(&folder.0.join("key.pem")), 0o600);
        for (mode, good) in [(0o750, true), (0o770, true), (0o755, false), (0o701, false)] {
            fs::set_permissions(&root, Permissions::from_mode(mode)).expect("set");
            let opened = Folder::open(&root, &directory());
            assert_eq!(opened.is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_place_leaves_nothing_behind() {
        let temporary = tempfile::tempdir().expect("a folder");
        fs::create_dir(temporary.path().join("key.pem")).expect("a folder in the way");
        replace(temporary.path(), "key.pem", b"Pl4nted").expect_err("refused");
        assert_eq!(names(temporary.path(), ""), ["key.pem"]);
    }

    #[test]
    fn each_ca_has_a_folder_of_its_own() {
        let temporary = tempfile::tempdir().expect("a folder");
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o700)).expect("set");
        let one = Folder::open(temporary.path(), &directory()).expect("opened");
        let staging = Uri::from_static("https://ca.example/staging");
        assert!(Folder::is_there(temporary.path(), &directory()));
        assert!(!Folder::is_there(temporary.path(), &staging));
        let other = Folder::open(temporary.path(), &staging).expect("opened");
        assert_ne!(one.0, other.0);
    }

    #[test]
    fn one_orders_at_a_time() {
        let temporary = tempfile::tempdir().expect("a folder");
        let root = temporary.path().join("acme");
        let (one, other) = (
            Folder::open(&root, &directory()).expect("opened"),
            Folder::open(&root, &directory()).expect("opened"),
        );
        let lock = one.try_lock().expect("no error").expect("free");
        assert!(other.try_lock().expect("no error").is_none());
        drop(lock);
        assert!(other.try_lock().expect("no error").is_some());
    }
}
