//! What is wrong with the files, told to those who write them: collected, so that one run names
//! every fault.

use serde_json::Value;

use super::source::Span;
use super::{render, sarif};

/// Whether a fault stops the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but somebody should look.
    Warning,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place and what is to be said of it (nothing, where the message says it already).
#[derive(Clone, Debug)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What stands beside the underlining; may be empty.
    pub text: String,
}

/// One fault. Built by [`Diagnostics::error`] and [`Diagnostics::warning`].
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    primary: Label,
    related: Vec<Label>,
    help: Vec<String>,
}

impl Diagnostic {
    /// Says something beside the underlining itself.
    pub fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.primary.text = text.into();
        self
    }

    /// Shows a second place: "first named here".
    pub fn also(&mut self, span: &Span, text: impl Into<String>) -> &mut Self {
        self.related.push(Label {
            span: span.clone(),
            text: text.into(),
        });
        self
    }

    /// Says what to do.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Adds "did you mean ..?" where there is a name to propose.
    pub fn did_you_mean(&mut self, name: Option<&str>) -> &mut Self {
        match name {
            Some(name) => self.label(format!("did you mean `{name}`?")),
            None => self,
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The place that is at fault.
    pub fn primary(&self) -> &Label {
        &self.primary
    }

    /// Other places that matter.
    pub fn related(&self) -> &[Label] {
        &self.related
    }

    /// What to do.
    pub fn helps(&self) -> &[String] {
        &self.help
    }
}

/// All faults found so far. Whoever adds a message never puts a value into it that stands where a
/// secret might; the lines that are shown are masked by the files themselves.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error; label and help may be chained on.
    pub fn error(&mut self, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, span, message.into())
    }

    /// Adds a warning; label and help may be chained on.
    pub fn warning(&mut self, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, span, message.into())
    }

    fn add(&mut self, severity: Severity, span: &Span, message: String) -> &mut Diagnostic {
        self.found.push_mut(Diagnostic {
            severity,
            message,
            primary: Label {
                span: span.clone(),
                text: String::new(),
            },
            related: Vec::new(),
            help: Vec::new(),
        })
    }

    /// Whether anything stops the files from being used.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        let found = self.found.iter();
        found.filter(|found| found.severity == severity).count()
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All of them, by file and place.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut sorted: Vec<_> = self.found.iter().collect();
        sorted.sort_by_key(|found| {
            let span = &found.primary.span;
            (span.source().name(), span.range().start)
        });
        sorted
    }

    /// All of them as text for people, with the lines that are at fault, a blank line between.
    pub fn render(&self) -> String {
        let each: Vec<_> = self.sorted().into_iter().map(render::human).collect();
        each.join("\n")
    }

    /// All of them as SARIF 2.1.0, for code hosts. No line of a file is in it.
    pub fn to_sarif(&self) -> Value {
        sarif::sarif(&self.sorted())
    }

    /// All of them as JSON: an array of `severity`, `message`, `file`, `line`, `column`,
    /// `endLine`, `endColumn`, `label`, `help` and `related`. No line of a file is in it.
    pub fn to_json(&self) -> Value {
        self.sorted().into_iter().map(render::json).collect()
    }
}
