//! From text to CEL's syntax tree, and from the parser's complaints to faults with places.

use std::ops::Range;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, SourceInfo};
use cel::{Env, ParseError};

use super::Fault;
use super::scan::Scan;

/// How many nodes a tree may have.
const MOST_NODES: usize = 500;

/// A parsed condition and where its parts stand.
pub(super) struct Parsed {
    /// The tree. Macros are calls in it, as written.
    pub(super) root: IdedExpr,
    /// The tokens.
    pub(super) scan: Scan,
    places: SourceInfo,
}

/// Parses a condition.
///
/// # Errors
///
/// One fault: what follows the first is mostly of its making.
pub(super) fn parse(text: &str) -> Result<Parsed, Vec<Fault>> {
    let scan = Scan::new(text).map_err(|fault| vec![fault])?;
    let parser = Env::default().with_optional_support(false).parser();
    match parser.parse_with_source_info(text) {
        Ok((root, _)) if nodes(&root) > MOST_NODES => {
            let message = format!("a condition has at most {MOST_NODES} parts");
            let help = "write long lists in several rules";
            Err(vec![Fault::new(0..text.len(), message).help(help)])
        }
        Ok((root, places)) => Ok(Parsed { root, scan, places }),
        Err(errors) => Err(vec![fault(text, &scan, errors.errors.first())]),
    }
}

/// How many nodes a tree has. Maps count as one: they are refused as they are.
fn nodes(expr: &IdedExpr) -> usize {
    let below: usize = match &expr.expr {
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .map(nodes)
            .sum(),
        Expr::List(list) => list.elements.iter().map(nodes).sum(),
        Expr::Select(select) => nodes(&select.operand),
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => 0,
    };
    below + 1
}

fn fault(text: &str, scan: &Scan, error: Option<&ParseError>) -> Fault {
    let Some(error) = error else {
        return Fault::new(0..text.len(), "this is no CEL");
    };
    let offset = offset(text, error.pos);
    let range = scan.near(offset);
    let written = text.get(range.clone()).unwrap_or_default();
    if written.is_empty() {
        return Fault::new(0..text.len(), "a condition cannot be empty");
    }
    if offset >= range.end {
        return Fault::new(range, "something is missing after this");
    }
    let message = match &*error.msg {
        "invalid int literal" | "invalid uint literal" => "this number is out of range",
        "invalid double literal" => "this number is out of range",
        said if said.starts_with("invalid string literal") => "this string is no text",
        said if said.starts_with("invalid bytes literal") => "this string is no text",
        said if said.starts_with("reserved identifier") => "this word is reserved in CEL",
        _ => "this is not expected here",
    };
    let fault = Fault::new(range, message);
    match written {
        "and" => fault.help("write `&&` for \"and\""),
        "or" => fault.help("write `||` for \"or\""),
        "not" => fault.help("write `!` for \"not\""),
        _ => fault,
    }
}

/// The offset of a line and a column, both from one and in characters, as the parser counts.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let skip = |number: isize| usize::try_from(number - 1).unwrap_or(0);
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(skip(line)).map(str::len).sum();
    let within = lines.next().unwrap_or_default();
    let column = within.char_indices().nth(skip(column));
    before + column.map_or(within.len(), |(offset, _)| offset)
}

impl Parsed {
    /// Where the token of a node begins: its operator, its dot, its opening bracket, itself.
    pub(super) fn start(&self, expr: &IdedExpr) -> usize {
        let start = self.places.offset_for(expr.id).map(|(start, _)| start);
        start
            .and_then(|start| usize::try_from(start).ok())
            .unwrap_or(0)
    }

    /// Where the name of a selected field or of a called function stands.
    pub(super) fn name(&self, expr: &IdedExpr) -> Range<usize> {
        let start = self.start(expr);
        match &expr.expr {
            Expr::Select(_) => self.scan.after(start),
            _ => self.scan.before(start),
        }
    }

    /// Whether a call is written with a name and brackets, not with an operator.
    pub(super) fn is_function(&self, expr: &IdedExpr, name: &str) -> bool {
        let spelled = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        spelled && self.scan.closes(self.start(expr)).is_some()
    }

    /// Where a part stands, from its first token to its last.
    pub(super) fn span(&self, expr: &IdedExpr) -> Range<usize> {
        let start = self.start(expr);
        let token = self.scan.token(start);
        let own = match &expr.expr {
            Expr::Select(_) => start..self.scan.after(start).end,
            Expr::Call(call)
                if call.target.is_none() && self.is_function(expr, &call.func_name) =>
            {
                self.scan.before(start).start..self.scan.closes(start).unwrap_or(token.end)
            }
            Expr::Call(_) | Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                start..self.scan.closes(start).unwrap_or(token.end)
            }
            // The parser takes the sign into the number but not into its place.
            Expr::Literal(literal) if is_negative(literal) => {
                self.scan.before(start).start..token.end
            }
            Expr::Unspecified | Expr::Comprehension(_) | Expr::Ident(_) | Expr::Literal(_) => token,
        };
        let parts: Vec<&IdedExpr> = match &expr.expr {
            Expr::Select(select) => vec![&select.operand],
            Expr::Call(call) => call
                .target
                .as_deref()
                .into_iter()
                .chain(&call.args)
                .collect(),
            _ => Vec::new(),
        };
        parts
            .into_iter()
            .map(|part| self.span(part))
            .fold(own, |whole, part| {
                whole.start.min(part.start)..whole.end.max(part.end)
            })
    }
}

fn is_negative(literal: &LiteralValue) -> bool {
    match literal {
        LiteralValue::Int(number) => *number.inner() < 0,
        LiteralValue::Double(number) => number.inner().is_sign_negative(),
        LiteralValue::Boolean(_)
        | LiteralValue::Bytes(_)
        | LiteralValue::Null
        | LiteralValue::String(_)
        | LiteralValue::UInt(_) => false,
    }
}
