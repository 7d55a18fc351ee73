//! What stands in the policy files that are in force.

use crate::files;
use crate::snapshot::Snapshot;

/// A backend, by its name.
pub(super) fn backend<'s>(snapshot: &'s Snapshot, name: &str) -> Option<&'s files::Backend> {
    let mut backends = snapshot.written.as_ref()?.backends.iter();
    let found = backends.find(|backend| backend.name.value == name)?;
    Some(&found.value)
}
