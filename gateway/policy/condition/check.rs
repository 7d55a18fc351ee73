//! The check of a condition: every name is one that there is, every value has the type that its use
//! asks for. What comes out is ready to be evaluated.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use super::Fault;
use super::field::Field;
use super::impossible::{Impossible, Names, impossible};
use super::node::{Comparison, Literal, Node, Sum};
use super::paths::Path;
use super::print::quoted;
use super::syntax::Parsed;
use super::types::{Element, Type};

/// A part and its type.
pub(super) type Typed = (Node, Type);

/// Checks a parsed condition. Besides it come the fields that it reads, in the order of the text.
///
/// # Errors
///
/// Every fault, in the order of the text.
pub(super) fn check(parsed: &Parsed, names: &Names<'_>) -> Result<(Node, Vec<Field>), Vec<Fault>> {
    let mut checker = Checker {
        parsed,
        names,
        faults: Vec::new(),
        fields: Vec::new(),
        variables: Vec::new(),
    };
    let (node, kind) = checker.part(&parsed.root);
    if !matches!(kind, Type::Bool | Type::Wrong) {
        let range = parsed.span(&parsed.root);
        let message = format!("a condition is true or false, but this is {kind}");
        checker.fault(Fault::new(range, message).help("compare it with something"));
    }
    let Checker {
        mut faults, fields, ..
    } = checker;
    if faults.is_empty() {
        return Ok((node, fields));
    }
    faults.sort_by_key(|fault| (fault.range.start, fault.range.end));
    faults.dedup();
    Err(faults)
}

/// What a check knows on its way.
pub(super) struct Checker<'p> {
    /// The tree and its places.
    pub(super) parsed: &'p Parsed,
    names: &'p Names<'p>,
    /// The variables of the macros around, the outermost first.
    pub(super) variables: Vec<(Box<str>, Type)>,
    /// The fields that are read, in the order of the text.
    pub(super) fields: Vec<Field>,
    faults: Vec<Fault>,
}

impl Checker<'_> {
    /// Checks a part.
    pub(super) fn part(&mut self, expr: &IdedExpr) -> Typed {
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(name) => self.identifier(expr, name),
            Expr::Select(_) => self.select(expr),
            Expr::List(list) => self.list(&list.elements),
            Expr::Call(call) if self.parsed.is_function(expr, &call.func_name) => {
                self.function(expr, call)
            }
            Expr::Call(call) => self.operator(expr, call),
            Expr::Map(_) => self.unsupported(expr, "maps"),
            Expr::Struct(_) => self.unsupported(expr, "messages"),
            Expr::Comprehension(_) | Expr::Unspecified => self.unsupported(expr, "such parts"),
        }
    }

    /// Checks a part that must have a type.
    pub(super) fn part_of(&mut self, expr: &IdedExpr, wanted: Type) -> Node {
        let (node, kind) = self.part(expr);
        if !kind.fits(wanted) {
            self.fault_at(expr, format!("{wanted} is needed here, but this is {kind}"));
        }
        node
    }

    /// Says what is wrong with a part.
    pub(super) fn fault_at(&mut self, expr: &IdedExpr, message: String) -> Typed {
        self.fault(Fault::new(self.parsed.span(expr), message))
    }

    /// Says what is wrong. What stands for the part that is wrong is never evaluated.
    pub(super) fn fault(&mut self, fault: Fault) -> Typed {
        self.faults.push(fault);
        WRONG
    }

    fn unsupported(&mut self, expr: &IdedExpr, what: &str) -> Typed {
        self.fault_at(expr, format!("conditions have no {what}"))
    }

    fn literal(&mut self, expr: &IdedExpr, literal: &LiteralValue) -> Typed {
        let (literal, kind) = match literal {
            LiteralValue::Null => (Literal::Null, Type::Null),
            LiteralValue::Boolean(truth) => (Literal::Bool(*truth.inner()), Type::Bool),
            LiteralValue::Int(number) => (Literal::Int(*number.inner()), Type::Int),
            LiteralValue::Double(number) => (Literal::Double(*number.inner()), Type::Double),
            LiteralValue::String(text) => (Literal::Text(text.inner().into()), Type::Text),
            LiteralValue::UInt(number) => {
                let help = format!("write {}", number.inner());
                let message = "conditions have no unsigned numbers";
                return self.fault(Fault::new(self.parsed.span(expr), message).help(help));
            }
            LiteralValue::Bytes(_) => return self.unsupported(expr, "bytes"),
        };
        (Node::Literal(literal), kind)
    }

    fn list(&mut self, elements: &[IdedExpr]) -> Typed {
        let parts: Vec<Typed> = elements.iter().map(|element| self.part(element)).collect();
        let mut kinds = parts.iter().map(|(_, kind)| kind.as_element());
        let first = kinds.next().unwrap_or(Element::Dyn);
        let of = if kinds.all(|kind| kind == first) {
            first
        } else {
            Element::Dyn
        };
        let nodes = parts.into_iter().map(|(node, _)| node).collect();
        (Node::List(nodes), Type::List(of))
    }

    fn operator(&mut self, expr: &IdedExpr, call: &CallExpr) -> Typed {
        match (&*call.func_name, &call.args[..]) {
            (operators::LOGICAL_AND, args) => (
                Node::All(self.chain(operators::LOGICAL_AND, args)),
                Type::Bool,
            ),
            (operators::LOGICAL_OR, args) => (
                Node::Any(self.chain(operators::LOGICAL_OR, args)),
                Type::Bool,
            ),
            (operators::LOGICAL_NOT, [of]) => (
                Node::Not(Box::new(self.part_of(of, Type::Bool))),
                Type::Bool,
            ),
            (operators::NEGATE, [of]) => self.negate(of),
            (operators::CONDITIONAL, [condition, yes, no]) => {
                self.choose(expr, [condition, yes, no])
            }
            (operators::INDEX, [of, key]) => self.index(expr, of, key),
            (operators::IN, [what, list]) => self.within(expr, what, list),
            (sign, [left, right]) => {
                if let Some(comparison) = comparison(sign) {
                    return self.compare(expr, comparison, left, right);
                }
                match sum(sign) {
                    Some(sum) => self.reckon(expr, sum, left, right),
                    None => self.unsupported(expr, "such operator"),
                }
            }
            _ => self.unsupported(expr, "such operator"),
        }
    }

    /// The parts of `a && b && c`, which the parser has made into a balanced tree.
    fn chain(&mut self, sign: &str, args: &[IdedExpr]) -> Vec<Node> {
        let mut nodes = Vec::new();
        for arg in args {
            match &arg.expr {
                Expr::Call(call) if call.func_name == sign => {
                    nodes.extend(self.chain(sign, &call.args));
                }
                _ => nodes.push(self.part_of(arg, Type::Bool)),
            }
        }
        nodes
    }

    fn negate(&mut self, of: &IdedExpr) -> Typed {
        let (node, kind) = self.part(of);
        match kind {
            Type::Wrong => WRONG,
            Type::Int | Type::Double | Type::Dyn => (Node::Negate(Box::new(node)), kind),
            _ => self.fault_at(of, format!("a number is needed here, but this is {kind}")),
        }
    }

    fn choose(&mut self, expr: &IdedExpr, [condition, yes, no]: [&IdedExpr; 3]) -> Typed {
        let condition = self.part_of(condition, Type::Bool);
        let ((yes, left), (no, right)) = (self.part(yes), self.part(no));
        if !left.meets(right) {
            let message = format!("this is {left} or {right}: both must be of one type");
            return self.fault_at(expr, message);
        }
        let kind = if left == right { left } else { Type::Dyn };
        (Node::Choose(Box::new([condition, yes, no])), kind)
    }

    fn index(&mut self, expr: &IdedExpr, of: &IdedExpr, key: &IdedExpr) -> Typed {
        match self.path(expr) {
            Path::Other => {}
            path => return self.path_as_value(expr, path),
        }
        let (node, kind) = self.part(of);
        let node = Box::new(node);
        match (kind, &key.expr) {
            (Type::Wrong, _) => WRONG,
            (Type::Dyn, Expr::Literal(LiteralValue::String(name))) => {
                (Node::Member(node, name.inner().into()), Type::Dyn)
            }
            (Type::Dyn | Type::List(_), Expr::Literal(LiteralValue::Int(number))) => {
                let kind = match kind {
                    Type::List(of) => of.alone(),
                    _ => Type::Dyn,
                };
                match usize::try_from(*number.inner()) {
                    Ok(index) => (Node::At(node, index), kind),
                    Err(_) => self.fault_at(key, "lists begin at 0".to_owned()),
                }
            }
            (Type::Dyn, _) => self.fault_at(
                key,
                "the key must be an int or a string as it stands".to_owned(),
            ),
            (Type::List(_), _) => {
                self.fault_at(key, "the index must be an int as it stands".to_owned())
            }
            _ => self.fault_at(of, format!("{kind} has nothing to pick from")),
        }
    }

    fn within(&mut self, expr: &IdedExpr, what: &IdedExpr, list: &IdedExpr) -> Typed {
        match (self.path(list), literal_text(what)) {
            (Path::Map(_, map), Some(name)) => {
                let path = self.entry(map, name, self.parsed.span(what));
                return match path {
                    Path::Field(field, _) => {
                        self.reads(&field);
                        (Node::Has(field), Type::Bool)
                    }
                    _ => WRONG,
                };
            }
            (Path::Map(..), None) => {
                return self.fault_at(what, "the name must be a string as it stands".to_owned());
            }
            (Path::Wrong, _) => {
                self.part(what);
                return WRONG;
            }
            (Path::Room(_) | Path::Field(..) | Path::Other, _) => {}
        }
        let ((what_node, what_kind), (list_node, kind)) = (self.part(what), self.part(list));
        match kind {
            Type::List(of) if !what_kind.meets(of.alone()) => {
                return self.fault_at(expr, format!("{what_kind} is never in {kind}"));
            }
            Type::List(_) | Type::Dyn => {}
            Type::Wrong => return WRONG,
            _ => return self.fault_at(list, format!("a list is needed here, but this is {kind}")),
        }
        if let (Node::Read(field, _), Expr::List(literals)) = (&what_node, &list.expr) {
            for literal in &literals.elements {
                self.possible(field, literal);
            }
        }
        if let Node::Read(field @ Field::Groups, _) = &list_node {
            self.possible(field, what);
        }
        (Node::In(Box::new([what_node, list_node])), Type::Bool)
    }

    fn compare(
        &mut self,
        expr: &IdedExpr,
        comparison: Comparison,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Typed {
        let ((left_node, left_kind), (right_node, right_kind)) =
            (self.part(left), self.part(right));
        if !left_kind.meets(right_kind) {
            let message = format!("{left_kind} cannot be compared with {right_kind}");
            let fault = Fault::new(self.parsed.span(expr), message);
            return self.fault(match (left_kind, right_kind) {
                (Type::List(_), _) | (_, Type::List(_)) => {
                    fault.help("ask whether it is among them: `'Guests.Read' in token.roles`")
                }
                (Type::Time, Type::Text) | (Type::Text, Type::Time) => {
                    fault.help("write `timestamp('2027-01-01T00:00:00Z')`")
                }
                (Type::Time, Type::Int) | (Type::Int, Type::Time) => fault
                    .help("`int(request.time)` is in seconds, as `exp` and `iat` of tokens are"),
                _ => fault,
            });
        }
        let by_order = !matches!(comparison, Comparison::Equal | Comparison::Unequal);
        for (part, kind) in [(left, left_kind), (right, right_kind)] {
            if by_order && !kind.has_order() {
                return self.fault_at(
                    part,
                    format!("{kind} is neither less nor more than another"),
                );
            }
        }
        if let Node::Read(field, _) = &left_node {
            self.possible(field, right);
        }
        if let Node::Read(field, _) = &right_node {
            self.possible(field, left);
        }
        (
            Node::Compare(comparison, Box::new([left_node, right_node])),
            Type::Bool,
        )
    }

    /// Refuses to compare a field with a text that it can never be: mostly a slip, which would
    /// leave a rule that never holds or, under `!=`, one that always does.
    fn possible(&mut self, field: &Field, other: &IdedExpr) {
        let Some(text) = literal_text(other) else {
            return;
        };
        let Some(Impossible { near, help }) = impossible(field, text, self.names) else {
            return;
        };
        let message = format!("{field} is never {}", quoted(text));
        let fault = Fault::new(self.parsed.span(other), message);
        let near = near.as_deref().map(quoted);
        self.fault(fault.near(near.as_deref()).help(help));
    }

    fn reckon(&mut self, expr: &IdedExpr, sum: Sum, left: &IdedExpr, right: &IdedExpr) -> Typed {
        let ((left_node, left), (right_node, right)) = (self.part(left), self.part(right));
        let kind = match (left, right) {
            (Type::Wrong, _) | (_, Type::Wrong) => return WRONG,
            (Type::Text, Type::Text | Type::Dyn) | (Type::Dyn, Type::Text) if sum == Sum::Plus => {
                Type::Text
            }
            (Type::Dyn, Type::Dyn) if sum == Sum::Plus => Type::Dyn,
            (Type::Int | Type::Dyn, Type::Int | Type::Dyn) => Type::Int,
            _ => {
                let message = format!("there is no sum of {left} and {right}");
                let fault = Fault::new(self.parsed.span(expr), message);
                let help = "`+ - * / %` take ints, and `+` takes strings too";
                return self.fault(fault.help(help));
            }
        };
        (Node::Reckon(sum, Box::new([left_node, right_node])), kind)
    }
}

/// What stands for a part that is wrong.
pub(super) const WRONG: Typed = (Node::Literal(Literal::Null), Type::Wrong);

/// The text of a string that stands as it is.
pub(super) fn literal_text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

fn comparison(sign: &str) -> Option<Comparison> {
    Some(match sign {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::Unequal,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::More,
        operators::GREATER_EQUALS => Comparison::MoreOrEqual,
        _ => return None,
    })
}

fn sum(sign: &str) -> Option<Sum> {
    Some(match sign {
        operators::ADD => Sum::Plus,
        operators::SUBSTRACT => Sum::Minus,
        operators::MULTIPLY => Sum::Times,
        operators::DIVIDE => Sum::Over,
        operators::MODULO => Sum::Modulo,
        _ => return None,
    })
}
