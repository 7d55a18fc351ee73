//! Reading policies for the commands that ask them something.

use std::path::{Path, PathBuf};

use super::Unanswered;
use super::check::is_gateway;
use crate::files::{self, Diagnostics, PolicyDocument};
use crate::policy::{self, Policy};
use crate::trial::{Tokens, Trial};

/// A policy and the document that it was compiled from. By default, one that lets nobody in.
#[derive(Default)]
pub(super) struct Read {
    pub(super) policy: Policy,
    pub(super) document: PolicyDocument,
    /// As the gateway.yaml says that led to the policies, if one did.
    pub(super) tokens: Tokens,
    /// Whether one did.
    pub(super) has_settings: bool,
}

impl Read {
    /// The policy, to put questions to.
    pub(super) fn trial(&self) -> Trial<'_> {
        Trial::new(&self.policy, &self.tokens)
    }
}

/// Reads and compiles the policies that a path leads to: a folder, a file, or a gateway.yaml that names
/// them. `None` when the diagnostics hold an error.
pub(super) fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Read> {
    let (place, tokens) = place(path, diagnostics)?;
    let read = read_at(&place, tokens, diagnostics)?;
    Some(Read {
        has_settings: is_gateway(path),
        ..read
    })
}

/// The same, where the place is known.
pub(super) fn read_at(place: &Path, tokens: Tokens, diagnostics: &mut Diagnostics) -> Option<Read> {
    let document = files::load_policies(place, diagnostics)?;
    let policy = policy::compile(&document, diagnostics)?;
    (!diagnostics.has_errors()).then_some(Read {
        policy,
        document,
        tokens,
        has_settings: false,
    })
}

/// The same, for a command that can say nothing without them.
pub(super) fn to_ask(path: &Path) -> Result<Read, Unanswered> {
    if !path.exists() {
        return Err(Unanswered::UsedWrongly(format!(
            "there is no `{}` here: name the policies by `--policies`",
            path.display()
        )));
    }
    let mut diagnostics = Diagnostics::new();
    read(path, &mut diagnostics).ok_or(Unanswered::Faulty(diagnostics))
}

/// The file or folder that holds the policies, and what tokens are held to beside them.
pub(super) fn place(path: &Path, diagnostics: &mut Diagnostics) -> Option<(PathBuf, Tokens)> {
    if !is_gateway(path) {
        return Some((path.to_owned(), Tokens::default()));
    }
    let gateway = files::load_gateway(path, diagnostics)?;
    Some((gateway.policies.value, Tokens::from(&gateway.entra)))
}
