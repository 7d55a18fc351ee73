//! stub
#![allow(missing_docs)]
use std::borrow::Cow;
use std::ops::Range;
#[derive(Debug)]
pub struct Condition(String);
#[derive(Debug)]
pub struct Fault {
    pub range: Range<usize>,
    pub message: String,
    pub near: Option<String>,
    pub help: Option<String>,
}
impl Condition {
    pub fn compile(text: &str) -> Result<Self, Vec<Fault>> {
        Ok(Self(text.to_owned()))
    }
    pub fn text(&self) -> &str {
        &self.0
    }
    pub fn normal(&self) -> &str {
        &self.0
    }
    pub fn evaluate(&self, _f: &dyn Facts) -> Outcome {
        Outcome::Is(self.0 == "true")
    }
    pub fn constant(&self) -> Option<bool> {
        None
    }
    pub fn reads_token(&self) -> bool {
        false
    }
    pub fn reads_groups(&self) -> bool {
        false
    }
    pub fn reads_parameters(&self) -> bool {
        false
    }
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
    pub fn values(&self, _f: &dyn Facts) -> Vec<(String, String)> {
        vec![]
    }
}
pub enum Outcome {
    Is(bool),
    Failed(Failure),
    Unknown,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Absent(String),
    GroupOverage,
    Type(String),
    Budget,
    Overflow,
}
impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}
pub trait Facts {
    fn look(&self, field: &Field) -> Fact<'_>;
}
pub enum Field {
    Tenant,
    App,
    Principal,
    Kind,
    Version,
    Roles,
    Scopes,
    Groups,
    Claim(Box<str>),
    Method,
    Host,
    Path,
    Header(Box<str>),
    Parameter(Box<str>),
    Time,
    Address,
    Protocol,
}
pub enum Fact<'f> {
    Is(Value<'f>),
    Absent,
    Unknown,
    Failed(Failure),
}
pub enum Value<'f> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Cow<'f, str>),
    Texts(&'f [Box<str>]),
    Json(&'f serde_json::Value),
    Time(i64),
    List(Vec<Value<'f>>),
}
