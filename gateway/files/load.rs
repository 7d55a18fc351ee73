//! Reading files: gateway.yaml, a policy file, or a folder of them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::bounded::read_at_most;
use super::diagnostics::Diagnostics;
use super::gateway::{self, GatewayDocument};
use super::node::Node;
use super::policy::PolicyDocument;
use super::source::{Source, Span};
use super::test_document::{self, TestDocument};
use super::tree;

/// The largest file that is read: 4 MiB, far beyond what people write by hand.
const LARGEST: usize = 4 << 20;

/// Reads gateway.yaml. Every fault is added to `diagnostics`. `None` where too little was
/// understood to go on looking for faults; a document that is to be used has to have come without
/// errors, so ask [`Diagnostics::has_errors`] as well.
pub fn load_gateway(path: &Path, diagnostics: &mut Diagnostics) -> Option<GatewayDocument> {
    let root = read(path, diagnostics)?;
    gateway::document(&root, diagnostics)
}

/// Reads gateway.yaml from a text; `path` is what it is called. As [`load_gateway`].
pub fn parse_gateway(
    path: &Path,
    text: &str,
    diagnostics: &mut Diagnostics,
) -> Option<GatewayDocument> {
    let root = parse(path, text.to_owned(), diagnostics)?;
    gateway::document(&root, diagnostics)
}

/// Reads a policy file, or the `*.yaml` and `*.yml` files of a folder in the order of their names,
/// save `*.test.yaml` and hidden ones. Every fault is added to `diagnostics`. `None` where there
/// is no file to read; otherwise what could be understood, which may be enforced only if there are
/// no errors.
pub fn load_policies(path: &Path, diagnostics: &mut Diagnostics) -> Option<PolicyDocument> {
    let files = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => policy_files(path, diagnostics)?,
        // What cannot be read says so when it is opened.
        Ok(_) | Err(_) => vec![path.to_path_buf()],
    };
    let roots = files.iter().map(|file| read(file, diagnostics)).collect();
    Some(merge(roots, diagnostics))
}

/// Reads policies from texts, each with what it is called. As [`load_policies`].
pub fn parse_policies(files: &[(&Path, &str)], diagnostics: &mut Diagnostics) -> PolicyDocument {
    let roots = files
        .iter()
        .map(|(path, text)| parse(path, (*text).to_owned(), diagnostics))
        .collect();
    merge(roots, diagnostics)
}

/// Reads the tests of a `*.test.yaml` file. Every fault is added to `diagnostics`; what was understood
/// is there all the same.
pub fn load_tests(path: &Path, diagnostics: &mut Diagnostics) -> TestDocument {
    let root = read(path, diagnostics);
    root.map(|root| test_document::document(&root, diagnostics))
        .unwrap_or_default()
}

/// Reads tests from a text; `path` is what it is called. As [`load_tests`].
pub fn parse_tests(path: &Path, text: &str, diagnostics: &mut Diagnostics) -> TestDocument {
    let root = parse(path, text.to_owned(), diagnostics);
    root.map(|root| test_document::document(&root, diagnostics))
        .unwrap_or_default()
}

/// The `*.test.yaml` and `*.test.yml` files of a folder in the order of their names, save hidden ones.
/// None where it cannot be read, or is a file.
pub fn test_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_test = |path: &PathBuf| path.file_name().is_some_and(is_test_file);
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_test).collect();
    files.sort();
    files
}

fn is_test_file(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with('.') && (name.ends_with(".test.yaml") || name.ends_with(".test.yml"))
}

fn merge(roots: Vec<Option<Node>>, diagnostics: &mut Diagnostics) -> PolicyDocument {
    let mut document = PolicyDocument::default();
    for root in roots {
        match root {
            Some(root) => document.add(&root, diagnostics),
            None => document.faulty.add_file(),
        }
    }
    document.finish(diagnostics);
    document
}

fn policy_files(folder: &Path, diagnostics: &mut Diagnostics) -> Option<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| Ok(entry?.path()))
            .collect::<io::Result<Vec<_>>>()
    });
    let mut files = match listed {
        Ok(files) => files,
        Err(error) => {
            let message = format!("the folder cannot be read: {}", plainly(&error));
            diagnostics.error(&Span::nowhere_in(folder), message);
            return None;
        }
    };
    files.retain(|file| file.file_name().is_some_and(is_policy_file));
    files.sort();
    if files.is_empty() {
        diagnostics
            .error(
                &Span::nowhere_in(folder),
                "there is no policy file in this folder",
            )
            .help("policy files are called `*.yaml` or `*.yml`; `*.test.yaml` are their tests");
        return None;
    }
    Some(files)
}

/// Whether a file in a folder is a policy. Hidden names are skipped: editors and mounted
/// configuration maps leave copies under them.
pub fn is_policy_file(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let stem = name
        .strip_suffix(".yaml")
        .or_else(|| name.strip_suffix(".yml"));
    stem.is_some_and(|stem| !stem.starts_with('.') && !stem.ends_with(".test"))
}

fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Node> {
    match text_of(path) {
        Ok(text) => parse(path, text, diagnostics),
        Err(unreadable) => {
            diagnostics.error(&Span::nowhere_in(path), unreadable);
            None
        }
    }
}

fn parse(path: &Path, text: String, diagnostics: &mut Diagnostics) -> Option<Node> {
    let source = Source::new(path, text);
    tree::parse(&source, diagnostics)
}

/// The text of a file, or why there is none.
fn text_of(path: &Path) -> Result<String, String> {
    let why = |error: io::Error| format!("the file cannot be read: {}", plainly(&error));
    // Asked before it is opened: to open a pipe would wait for its writer.
    if !fs::metadata(path).map_err(why)?.is_file() {
        return Err("this is not a file".to_owned());
    }
    let bytes = read_at_most(path, LARGEST + 1).map_err(why)?;
    if bytes.len() > LARGEST {
        return Err("the file is larger than 4 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        format!("the file is not UTF-8 text: line {line} holds other bytes")
    })
}

/// What the system says, without its number.
fn plainly(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is none of this name".to_owned(),
        io::ErrorKind::PermissionDenied => "permission is denied".to_owned(),
        _ => error.to_string(),
    }
}
