//! Policies to compare: a folder, a file, or what git keeps under a revision.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::policies::{self, Read};
use crate::files::{self, Diagnostics};
use crate::policy;

/// Where policies stand in a revision for which no path is named.
const USUAL_PLACE: &str = "policies";

/// Reads the policies of `place`: a path that exists, `REVISION`, or `REVISION:PATH`.
///
/// # Errors
/// Why it is neither, in a sentence. Faults of the policies are in the diagnostics, and the answer is
/// `Ok(None)`.
pub(super) fn read(place: &str, diagnostics: &mut Diagnostics) -> Result<Option<Read>, String> {
    let path = Path::new(place);
    if path.exists() {
        return Ok(policies::read(path, diagnostics));
    }
    let (revision, folder) = place.split_once(':').unwrap_or((place, USUAL_PLACE));
    let files = in_git(revision, folder)?;
    let texts: Vec<(&Path, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_path(), text.as_str()))
        .collect();
    let document = files::parse_policies(&texts, diagnostics);
    let policy = policy::compile(&document, diagnostics);
    let policy = policy.filter(|_| !diagnostics.has_errors());
    Ok(policy.map(|policy| Read { policy, document }))
}

/// The policy files of a folder, or the one file, under a revision.
fn in_git(revision: &str, folder: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let folder = folder.trim_end_matches('/');
    let commit = format!("{revision}^{{commit}}");
    let verify = [
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &commit,
    ];
    let commit = git(&verify).map_err(|_| {
        format!("`{revision}` is no file or folder here, and no revision that git knows")
    })?;
    let commit = commit.trim();
    let place = format!("{commit}:{folder}");
    let kind = git(&["cat-file", "-t", &place])
        .map_err(|_| format!("there is no `{folder}` in the revision `{revision}`"))?;
    let names = match kind.trim() {
        "blob" => vec![folder.to_owned()],
        _ => {
            let listed = git(&["ls-tree", "-z", "--name-only", &place])?;
            let names = listed.split('\0').filter(|name| !name.is_empty());
            let policies = names.filter(|name| files::is_policy_file(name.as_ref()));
            policies.map(|name| format!("{folder}/{name}")).collect()
        }
    };
    if names.is_empty() {
        return Err(format!(
            "there is no policy file in `{folder}` of the revision `{revision}`"
        ));
    }
    let read = |name: String| {
        let text = git(&["cat-file", "blob", &format!("{commit}:{name}")])?;
        Ok((PathBuf::from(format!("{revision}:{name}")), text))
    };
    names.into_iter().map(read).collect()
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
