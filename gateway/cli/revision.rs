//! Policies to compare: a folder, a file, or what git keeps under a revision.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::policies::{self, Read};
use super::talk;
use crate::files::{self, Diagnostics};
use crate::policy;

/// Where policies stand in a revision, if nothing tells.
const USUAL_PLACE: &str = "policies";

/// One side of a comparison.
pub(super) struct Operand<'p> {
    /// A path that exists, `REVISION`, or `REVISION:PATH`. What could be a path and a revision is neither:
    /// whoever can add a folder must not decide what a change is compared with.
    pub(super) place: &'p str,
    /// What it is compared with. A revision without a path means the same folder there.
    pub(super) other: &'p str,
    /// Whether a revision in which nothing is there yet is a policy that lets nobody in.
    pub(super) may_be_empty: bool,
}

/// Reads the policies of a side.
///
/// # Errors
/// Why it cannot, in a sentence. Faults of the policies are in the diagnostics, and the answer is
/// `Ok(None)`.
pub(super) fn read(
    operand: &Operand<'_>,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Read>, String> {
    let Operand { place, other, .. } = operand;
    let path = Path::new(place);
    let (revision, folder) = match place.split_once(':') {
        Some((revision, folder)) => (revision, Some(folder)),
        None => (*place, None),
    };
    let git = Git::around(Path::new(other));
    let is_plainly_a_path = place.starts_with(['.', '/']);
    let commit = match is_plainly_a_path {
        true => Err(format!("there is no `{place}`")),
        false => git.commit(revision),
    };
    let commit = match (commit, path.exists()) {
        (Ok(_), true) => {
            return Err(format!(
                "`{place}` is a file or folder here, and git knows a revision `{revision}`: \
                 write `./{place}` for the one, or `refs/heads/{revision}`, `refs/remotes/{revision}` or a commit for the other"
            ));
        }
        (Err(_), true) => return Ok(policies::read(path, diagnostics)),
        (Ok(commit), false) => commit,
        (Err(why), false) => return Err(why),
    };
    let folder = match folder {
        Some(folder) => folder.trim_end_matches('/').to_owned(),
        None => git.place_of(Path::new(other)),
    };
    let files = match git.policies(revision, &commit, &folder)? {
        Some(files) => files,
        None if operand.may_be_empty && !place.contains(':') => {
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

/// A repository, asked by git.
struct Git {
    /// A folder in it.
    folder: PathBuf,
}

impl Git {
    /// The repository that a path stands in, or else the one that this process stands in.
    fn around(path: &Path) -> Self {
        let folder = match path.is_file() {
            true => path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty()),
            false => Some(path).filter(|path| path.is_dir()),
        };
        Self {
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
        }
    }

    /// Where a path stands, from the root.
    fn place_of(&self, path: &Path) -> String {
        let prefix = self
            .is_trusted()
            .and_then(|()| self.ask(&["rev-parse", "--show-prefix"]));
        let Ok(prefix) = prefix else {
            return USUAL_PLACE.to_owned();
        };
        if !path.exists() {
            return USUAL_PLACE.to_owned();
        }
        let file = path.file_name().filter(|_| path.is_file());
        let file = file.unwrap_or_default().to_string_lossy();
        let place = format!("{}{file}", prefix.trim_end_matches('\n'));
        place.trim_end_matches('/').to_owned()
    }

    /// Whether this is a checkout that somebody made, and no repository that lies in one as ordinary files:
    /// whoever sends a change could put one there, and it would answer in the place of the right one. Git
    /// itself lets nobody commit a `.git`.
    fn is_trusted(&self) -> Result<(), String> {
        let folder = self.ask(&["rev-parse", "--absolute-git-dir"])?;
        let mut parts = Path::new(folder.trim_end_matches('\n')).components();
        match parts.any(|part| part.as_os_str() == ".git") {
            true => Ok(()),
            false => {
                Err("the files here are a repository themselves, which is not asked".to_owned())
            }
        }
    }

    fn has(&self, reference: &str) -> bool {
        self.ask(&[
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            reference,
        ])
        .is_ok()
    }

    fn commit(&self, revision: &str) -> Result<String, String> {
        self.is_trusted().map_err(|why| {
            format!("`{revision}` is no file or folder here, and git cannot be asked: {why}")
        })?;
        let meant = ["tags", "heads", "remotes"].map(|kind| format!("refs/{kind}/{revision}"));
        let meant: Vec<&String> = meant.iter().filter(|name| self.has(name)).collect();
        if let [one, other, ..] = meant.as_slice() {
            // Git would take the tag, which anybody may have made.
            return Err(format!(
                "`{revision}` is `{one}` and `{other}`: write which of the two"
            ));
        }
        let name = format!("{revision}^{{commit}}");
        let verify = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &name,
        ];
        let commit = self.ask(&verify).map_err(|why| match why.is_empty() {
            // Git says nothing where it has looked and found nothing.
            true => format!(
                "`{revision}` is no file or folder here, and no revision that git knows; in a shallow clone, \
                 fetch it first"
            ),
            false => format!("`{revision}` is no file or folder here, and git cannot be asked: {why}"),
        })?;
        Ok(commit.trim().to_owned())
    }

    /// The policy files of a folder, or the one file, under a revision. The place is one from the root of
    /// the repository, whatever the current folder. `None` where there are none.
    fn policies(
        &self,
        revision: &str,
        commit: &str,
        folder: &str,
    ) -> Result<Option<Vec<(PathBuf, String)>>, String> {
        let place = format!("{commit}:{folder}");
        let Ok(kind) = self.ask(&["cat-file", "-t", &place]) else {
            return Ok(None);
        };
        let names = match kind.trim() {
            "blob" => vec![folder.to_owned()],
            _ => {
                let listed = self.ask(&["ls-tree", "-z", "--full-tree", "--name-only", &place])?;
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
            let text = self.ask(&["cat-file", "blob", &format!("{commit}:{name}")])?;
            Ok((PathBuf::from(format!("{revision}:{name}")), text))
        };
        names
            .into_iter()
            .map(read)
            .collect::<Result<_, String>>()
            .map(Some)
    }

    /// What git says, or why it does not.
    fn ask(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("git")
            // Nothing is fetched, and nothing that lies here as ordinary files is a repository.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", "")
            .env("GIT_TERMINAL_PROMPT", "0")
            .args(["-c", "safe.bareRepository=explicit"])
            .arg("-C")
            .arg(&self.folder)
            .args(arguments)
            .output()
            .map_err(|error| format!("git cannot be run: {error}"))?;
        match output.status.success() {
            true => String::from_utf8(output.stdout)
                .map_err(|_| "git answered with something that is not text".to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }
}
