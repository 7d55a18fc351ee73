//! Whom a route lets in: what `who-can` tells of each route, and `what-can` of those that let an app in.

use serde::Serialize;

use crate::files::Mode;
use crate::policy::access::{Region, TooComplex};
use crate::policy::words::{Naming, Row, rows};
use crate::policy::{Policy, Route};

/// Whom a route lets in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LetIn {
    /// A row for each kind of caller.
    pub(crate) callers: Vec<Row>,
    /// Whether the route refuses nobody.
    pub(crate) report_only: bool,
    /// Whom it will let in once everything acts that only reports, where something does.
    pub(crate) callers_once_enforced: Option<Vec<Row>>,
}

impl LetIn {
    /// Of all whom a route lets in those that are of interest. `usual` are the audiences that go without
    /// saying.
    ///
    /// # Errors
    /// When the answer would be too long.
    pub(crate) fn of(
        policy: &Policy,
        route: &Route,
        usual: &[Box<str>],
        of_interest: impl Fn(Region) -> Region,
    ) -> Result<Self, TooComplex> {
        let rows = |reach| rows(&of_interest(reach), Naming(&[policy.names()]), usual);
        Ok(Self {
            callers: rows(policy.reach(route)?),
            report_only: route.mode() == Mode::ReportOnly,
            callers_once_enforced: policy.reach_once_enforced(route)?.map(rows),
        })
    }

    /// What only reports, in words; to stand before those whom it will let in.
    pub(crate) fn what_reports(&self) -> &'static str {
        match self.report_only {
            true => "only reports. Once it refuses",
            false => "has rules that only report. Once they act",
        }
    }
}
