//! A certificate that is ordered, as callers are shown it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Presented;
use super::read::assemble;
use crate::acme::{Acme, Issued};

/// A certificate for these names, whichever has been issued last.
pub(super) struct Ordered {
    acme: Arc<Acme>,
    names: Vec<String>,
    /// What was issued last, and what came of it.
    made: ArcSwapOption<(Arc<Issued>, Option<Arc<Presented>>)>,
}

impl Ordered {
    pub(super) fn new(acme: &Arc<Acme>, names: Vec<String>) -> Self {
        Self {
            acme: Arc::clone(acme),
            names,
            made: ArcSwapOption::empty(),
        }
    }

    pub(super) fn current(&self) -> Option<Arc<Presented>> {
        let issued = self.acme.issued(&self.names)?;
        let made = self.made.load();
        if let Some((from, presented)) = made.as_deref()
            && Arc::ptr_eq(from, &issued)
        {
            return presented.clone();
        }
        let presented = assemble(issued.chain.clone(), &issued.key);
        let presented = presented.ok().map(Arc::new);
        let made = Arc::new((issued, presented.clone()));
        self.made.store(Some(made));
        presented
    }

    /// Why there is none, or no newer one.
    pub(super) fn fault(&self) -> Option<String> {
        let status = self.acme.status(&self.names)?;
        match (status.last_failure, status.serial) {
            (Some(why), _) => Some(format!("it was not issued anew: {why}")),
            (None, None) => Some("it was not issued yet".to_owned()),
            (None, Some(_)) => None,
        }
    }
}
