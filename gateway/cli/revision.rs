//! Policies to compare: a folder, a file, or what git keeps under a revision.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::policies::{self, Read};
use super::talk;
use crate::files::{self, Diagnostics};
use crate::policy;

/// Where policies stand in a revision, if nothing tells.
const USUAL_PLACE: &str = "policies";

/// The sides of a comparison.
pub(super) struct Sides<'p> {
    /// A path that exists, `REVISION`, or `REVISION:PATH`.
    pub(super) place: &'p str,
    /// What it is compared with. A revision without a path means the same folder there.
    pub(super) other: &'p str,
    /// Whether a revision in which nothing is there yet is a policy that lets nobody in.
    pub(super) may_be_empty: bool,
}

/// Reads the policies of one side.
///
/// # Errors
/// Why it cannot, in a sentence. Faults of the policies are in the diagnostics, and the answer is
/// `Ok(None)`.
pub(super) fn read(
    sides: &Sides<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Read>, String> {
    let path = Path::new(sides.place);
    if path.exists() {
        return Ok(policies::read(path, diagnostics));
    }
    let (revision, folder) = match sides.place.split_once(':') {
        Some((revision, folder)) => (revision, folder.trim_end_matches('/').to_owned()),
        None => (sides.place, same_place(Path::new(sides.other))),
    };
    let commit = commit(revision)?;
    let files = match in_git(revision, &commit, &folder)? {
        Some(files) => files,
        None if sides.may_be_empty && !sides.place.contains(':') => {
            talk(&format!(
                "note: the revision `{revision}` has no policies in `{folder}`, so nobody is let in there\n"
            ));
            return Ok(Some(Read::default()));
        }
        None => {
            return Err(format!(
                "the revision `{revision}` has no policy file in `{folder}`"
            ));
        }
    };
    let texts: Vec<(&Path, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_path(), text.as_str()))
        .collect();
    let document = files::parse_policies(&texts, diagnostics);
    let policy = policy::compile(&document, diagnostics);
    let policy = policy.filter(|_| !diagnostics.has_errors());
    Ok(policy.map(|policy| Read {
        policy,
        document,
        ..Read::default()
    }))
}

/// Where a path stands in its repository, from the root of that.
fn same_place(path: &Path) -> String {
    let (folder, file) = match path.is_file() {
        true => (path.parent(), path.file_name()),
        false => (Some(path), None),
    };
    let here = Path::new(".");
    let folder = folder.map(|folder| {
        if folder.as_os_str().is_empty() {
            here
        } else {
            folder
        }
    });
    let folder = folder.filter(|folder| folder.is_dir());
    let folder = folder.map(|folder| folder.to_string_lossy());
    let prefix = folder.and_then(|folder| git(&["-C", &folder, "rev-parse", "--show-prefix"]).ok());
    match prefix {
        Some(prefix) => {
            let file = file.unwrap_or_default().to_string_lossy();
            let place = format!("{}{file}", prefix.trim_end_matches('\n'));
            place.trim_end_matches('/').to_owned()
        }
        None => USUAL_PLACE.to_owned(),
    }
}

fn commit(revision: &str) -> Result<String, String> {
    let name = format!("{revision}^{{commit}}");
    let verify = [
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &name,
    ];
    let commit = git(&verify).map_err(|_| {
        format!("`{revision}` is no file or folder here, and no revision that git knows")
    })?;
    Ok(commit.trim().to_owned())
}

/// The policy files of a folder, or the one file, under a revision. The place is one from the root of
/// the repository, whatever the current folder. `None` where there are none.
fn in_git(
    revision: &str,
    commit: &str,
    folder: &str,
) -> Result<Option<Vec<(PathBuf, String)>>, String> {
    let place = format!("{commit}:{folder}");
    let Ok(kind) = git(&["cat-file", "-t", &place]) else {
        return Ok(None);
    };
    let names = match kind.trim() {
        "blob" => vec![folder.to_owned()],
        _ => {
            let listed = git(&["ls-tree", "-z", "--full-tree", "--name-only", &place])?;
            let names = listed.split('\0').filter(|name| !name.is_empty());
            let policies = names.filter(|name| files::is_policy_file(name.as_ref()));
            let within = |name: &str| match folder {
                "" => name.to_owned(),
                folder => format!("{folder}/{name}"),
            };
            policies.map(within).collect()
        }
    };
    if names.is_empty() {
        return Ok(None);
    }
    let read = |name: String| {
        let text = git(&["cat-file", "blob", &format!("{commit}:{name}")])?;
        Ok((PathBuf::from(format!("{revision}:{name}")), text))
    };
    names
        .into_iter()
        .map(read)
        .collect::<Result<_, String>>()
        .map(Some)
}

/// What git says.
fn git(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .args(arguments)
        .output()
        .map_err(|error| format!("git cannot be run: {error}"))?;
    match output.status.success() {
        true => String::from_utf8(output.stdout)
            .map_err(|_| "git answered with something that is not text".to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
