//! `portcullis fmt`: the canonical form of files, written in place or only compared with.

use std::fs;
use std::io::{self, Read as _};
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
fn replace(file: &Path, text: &str) -> io::Result<()> {
    // A link keeps leading where it leads.
    let file = fs::canonicalize(file)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let fresh = file.with_file_name(format!(".{name}.{}", std::process::id()));
    fs::write(&fresh, text)?;
    fs::set_permissions(&fresh, fs::metadata(&file)?.permissions())?;
    fs::rename(&fresh, &file).inspect_err(|_| drop(fs::remove_file(&fresh)))
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
