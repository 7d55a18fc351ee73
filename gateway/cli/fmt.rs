//! `portcullis fmt`: the canonical form of files, written in place or only compared with.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{out, talk};
use crate::files::{self, Diagnostics};

/// Formats files and the YAML files of folders; `-` is standard input, formatted to standard output.
pub(super) fn fmt(paths: &[PathBuf], check: bool) -> ExitCode {
    if let [only] = paths
        && only.as_os_str() == "-"
    {
        return standard_input();
    }
    let mut diagnostics = Diagnostics::new();
    let mut differ = false;
    for path in paths {
        let files = match listed(path) {
            Ok(files) => files,
            Err(error) => {
                talk(&format!("error: {}: {error}\n", path.display()));
                return ExitCode::from(2);
            }
        };
        for file in files {
            match one(&file, check, &mut diagnostics) {
                Ok(differs) => differ |= differs,
                Err(error) => {
                    talk(&format!("error: {}: {error}\n", file.display()));
                    return ExitCode::from(2);
                }
            }
        }
    }
    out(&diagnostics.render());
    match diagnostics.has_errors() || (check && differ) {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    }
}

fn standard_input() -> ExitCode {
    let mut text = String::new();
    if let Err(error) = io::stdin().read_to_string(&mut text) {
        talk(&format!("error: standard input: {error}\n"));
        return ExitCode::from(2);
    }
    let mut diagnostics = Diagnostics::new();
    match files::format(Path::new("standard input"), &text, &mut diagnostics) {
        Some(formatted) => {
            out(&formatted);
            ExitCode::SUCCESS
        }
        None => {
            talk(&diagnostics.render());
            ExitCode::from(1)
        }
    }
}

/// The file, or the YAML files of the folder, tests among them.
fn listed(path: &Path) -> io::Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !metadata.is_dir() {
        return Err(io::Error::other("this is neither a file nor a folder"));
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if is_yaml && !name.starts_with('.') && file.is_file() {
            files.push(file.clone());
        }
    }
    files.sort();
    Ok(files)
}

/// Formats one file, or says how it differs. Whether it did.
fn one(file: &Path, check: bool, diagnostics: &mut Diagnostics) -> io::Result<bool> {
    let text = fs::read_to_string(file)?;
    let Some(formatted) = files::format(file, &text, diagnostics) else {
        return Ok(false);
    };
    if formatted == text {
        return Ok(false);
    }
    match check {
        true => out(&difference(file, &text, &formatted)),
        false => {
            replace(file, &formatted)?;
            out(&format!("{}\n", file.display()));
        }
    }
    Ok(true)
}

/// Puts a new text in the place of a file in one step: whoever reads it sees the old or the new one.
/// It stays readable for those who could read it, and is at no moment readable for others.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // A link keeps leading where it leads.
    let file = fs::canonicalize(file)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let fresh = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let created = create(&fresh)?;
    fs::metadata(&file)
        .and_then(|old| fill(&created, text, &old))
        .and_then(|()| fs::rename(&fresh, &file))
        .inspect_err(|_| drop(fs::remove_file(&fresh)))
}

/// A file of this name that was not there, for nobody else to read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Writes a file as a whole, with owner and permissions of the one that it replaces.
fn fill(mut fresh: &File, text: &str, old: &Metadata) -> io::Result<()> {
    fresh.write_all(text.as_bytes())?;
    let new = fresh.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(fresh, Some(old.uid()), Some(old.gid()))?;
    }
    // Last: what may be read from here on is the whole.
    fresh.set_permissions(old.permissions())?;
    fresh.sync_all()
}

/// The lines that differ, as `diff -u` shows them, without what may be a secret.
fn difference(file: &Path, old: &str, new: &str) -> String {
    let name = file.display().to_string();
    let (old, new) = (files::masked(file, old), files::masked(file, new));
    let lines = similar::TextDiff::from_lines(&old, &new)
        .unified_diff()
        .header(&name, &name)
        .to_string();
    match lines.is_empty() {
        true => format!("{name}: differs in what is not shown here\n"),
        false => lines,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o7777
    }

    fn owner(path: &Path) -> (u32, u32) {
        let metadata = fs::symlink_metadata(path).expect("it is there");
        (metadata.uid(), metadata.gid())
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        let names = names.into_iter().map(|name| name.into_string());
        names.collect::<Result<_, _>>().expect("text")
    }

    #[test]
    fn a_file_that_is_written_anew_keeps_its_owner_and_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.yaml");
        for wanted in [0o600, 0o640, 0o666] {
            fs::write(&file, "a:   1\n").expect("written");
            // Only root may give files away; everybody else keeps what is theirs.
            let _ = chown(&file, Some(7), Some(8));
            let theirs = owner(&file);
            fs::set_permissions(&file, fs::Permissions::from_mode(wanted)).expect("set");
            replace(&file, "a: 1\n").expect("replaced");
            assert_eq!(owner(&file), theirs);
            assert_eq!(fs::read_to_string(&file).expect("text"), "a: 1\n");
            assert_eq!(mode(&file), wanted);
        }
        assert_eq!(names(folder.path()), ["a.yaml"]);
    }

    #[test]
    fn what_is_being_written_is_for_its_writer_alone_and_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let fresh = folder.path().join("fresh");
        create(&fresh).expect("created");
        assert_eq!(mode(&fresh), 0o600);
        let again = create(&fresh).map_err(|error| error.kind());
        assert_eq!(again.err(), Some(io::ErrorKind::AlreadyExists));
        let link = folder.path().join("link");
        symlink(folder.path().join("nowhere"), &link).expect("a link");
        let through = create(&link).map_err(|error| error.kind());
        assert_eq!(through.err(), Some(io::ErrorKind::AlreadyExists));
    }

    #[test]
    fn a_link_keeps_leading_where_it_leads() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link, second] = ["a.yaml", "b.yaml", "c.yaml"].map(|n| folder.path().join(n));
        fs::write(&file, "a:   1\n").expect("written");
        symlink("a.yaml", &link).expect("a link");
        symlink(&link, &second).expect("a link");
        replace(&second, "a: 1\n").expect("replaced");
        assert_eq!(fs::read_to_string(&file).expect("text"), "a: 1\n");
        assert!(!file.is_symlink() && link.is_symlink() && second.is_symlink());
        assert_eq!(names(folder.path()), ["a.yaml", "b.yaml", "c.yaml"]);
    }

    #[test]
    fn nothing_is_left_behind_where_a_file_cannot_be_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join("full")).expect("a folder");
        replace(&taken, "a: 1\n").expect_err("a folder is no file");
        assert_eq!(names(folder.path()), ["taken"]);
    }
}
