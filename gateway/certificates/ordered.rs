//! A certificate that is ordered, as callers are shown it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Presented;
use super::read::assemble;
use crate::acme::{Acme, Issued};

/// A certificate for these names, whichever has been issued last.
pub(super) struct Ordered {
    /// Nothing where none were ordered as the gateway began.
    acme: Option<Arc<Acme>>,
    names: Vec<String>,
    made: ArcSwapOption<Made>,
}

/// What came of what was issued last.
struct Made {
    of: Arc<Issued>,
    /// This one, or the one before where this cannot be shown.
    presented: Option<Arc<Presented>>,
    fault: Option<String>,
}

impl Ordered {
    pub(super) fn new(acme: Option<&Arc<Acme>>, names: Vec<String>) -> Self {
        Self {
            acme: acme.cloned(),
            names,
            made: ArcSwapOption::empty(),
        }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn current(&self) -> Option<Arc<Presented>> {
        self.made()?.presented.clone()
    }

    fn made(&self) -> Option<Arc<Made>> {
        let issued = self.acme.as_ref()?.issued(&self.names)?;
        let before = self.made.load_full();
        if let Some(made) = before
            .as_ref()
            .filter(|made| Arc::ptr_eq(&made.of, &issued))
        {
            return Some(Arc::clone(made));
        }
        let (presented, fault) = match assemble(issued.chain.clone(), &issued.key) {
            Ok(presented) => (Some(Arc::new(presented)), None),
            Err(fault) => {
                let before = before.and_then(|made| made.presented.clone());
                (before, Some(fault.to_string()))
            }
        };
        let made = Arc::new(Made {
            of: issued,
            presented,
            fault,
        });
        self.made.store(Some(Arc::clone(&made)));
        Some(made)
    }

    /// Why there is none, or no newer one.
    pub(super) fn fault(&self) -> Option<String> {
        let Some(acme) = &self.acme else {
            return Some("it is ordered once the gateway is started anew".to_owned());
        };
        if let Some(fault) = self.made().and_then(|made| made.fault.clone()) {
            return Some(fault);
        }
        let status = acme.status(&self.names)?;
        match (status.last_failure, status.serial) {
            (Some(why), _) => Some(format!("it was not issued anew: {why}")),
            (None, None) => Some("it was not issued yet".to_owned()),
            (None, Some(_)) => None,
        }
    }
}
