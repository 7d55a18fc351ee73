//! Whom a route lets in: what `who-can` tells of each route, and `what-can` of those that let an app in.

use serde::Serialize;

use crate::files::Mode;
use crate::policy::access::{Region, TooComplex};
use crate::policy::words::{Naming, Row, rows};
use crate::policy::{Policy, Route};

/// Whom a route lets in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LetIn {
    /// A row for each kind of caller.
    pub(super) callers: Vec<Row>,
    report_only: bool,
    /// Whom it will let in once its refusals act, where they do not.
    pub(super) callers_once_enforced: Option<Vec<Row>>,
}

impl LetIn {
    /// Of all whom a route lets in those that are of interest. `usual` are the audiences that go without
    /// saying.
    ///
    /// # Errors
    /// When the answer would be too long.
    pub(super) fn of(
        policy: &Policy,
        route: &Route,
        usual: &[Box<str>],
        of_interest: impl Fn(Region) -> Region,
    ) -> Result<Self, TooComplex> {
        let rows = |reach| rows(&of_interest(reach), Naming(&[policy.names()]), usual);
        let report_only = route.mode() == Mode::ReportOnly;
        let by_rules = report_only
            .then(|| policy.reach_by_rules(route))
            .transpose()?;
        Ok(Self {
            callers: rows(policy.reach(route)?),
            report_only,
            callers_once_enforced: by_rules.map(rows),
        })
    }
}
