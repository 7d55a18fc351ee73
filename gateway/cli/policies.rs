//! Reading policies for the commands that ask them something.

use std::path::{Path, PathBuf};

use super::Unanswered;
use super::check::is_gateway;
use crate::files::{self, Diagnostics, PolicyDocument};
use crate::policy::{self, Policy};

/// A policy and the document that it was compiled from. By default, one that lets nobody in.
#[derive(Default)]
pub(super) struct Read {
    pub(super) policy: Policy,
    pub(super) document: PolicyDocument,
}

/// Reads and compiles the policies that a path leads to: a folder, a file, or a gateway.yaml that names
/// them. `None` when the diagnostics hold an error.
pub(super) fn read(path: &Path, diagnostics: &mut Diagnostics) -> Option<Read> {
    let document = files::load_policies(&place(path, diagnostics)?, diagnostics)?;
    let policy = policy::compile(&document, diagnostics)?;
    (!diagnostics.has_errors()).then_some(Read { policy, document })
}

/// The same, for a command that can say nothing without them.
pub(super) fn to_ask(path: &Path) -> Result<Read, Unanswered> {
    let mut diagnostics = Diagnostics::new();
    read(path, &mut diagnostics).ok_or(Unanswered::Faulty(diagnostics))
}

/// The file or folder that holds the policies.
pub(super) fn place(path: &Path, diagnostics: &mut Diagnostics) -> Option<PathBuf> {
    match is_gateway(path) {
        true => Some(files::load_gateway(path, diagnostics)?.policies.value),
        false => Some(path.to_owned()),
    }
}
