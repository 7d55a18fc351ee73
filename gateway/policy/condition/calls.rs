//! The check of functions, methods and macros.

use std::ops::Range;

use cel::common::ast::{CallExpr, Expr, IdedExpr};
use regex::RegexBuilder;

use super::Fault;
use super::check::{Checker, Typed, WRONG, literal_text};
use super::node::{Each, Function, Literal, Macro, Node, Part, Pattern, TextTest, named};
use super::paths::Path;
use super::time;
use super::types::{Element, Type};
use crate::files::nearest;

/// How deep macros may stand in each other: each level may be as many steps as a list is long.
const DEEPEST_MACROS: usize = 2;

/// How large a compiled pattern may be, in bytes.
const LARGEST_PATTERN: usize = 256 * 1024;

/// What is called by its name alone.
const FUNCTIONS: [&str; 5] = ["has", "size", "int", "string", "timestamp"];

/// What is called on a value, besides the names in `node`.
const METHODS: [&str; 3] = ["matches", "lowerAscii", "size"];

impl Checker<'_> {
    /// Checks what is called by a name.
    pub(super) fn function(&mut self, expr: &IdedExpr, call: &CallExpr) -> Typed {
        match &call.target {
            Some(target) => self.method(expr, target, call),
            None => self.global(expr, call),
        }
    }

    fn global(&mut self, expr: &IdedExpr, call: &CallExpr) -> Typed {
        let name = &*call.func_name;
        if !FUNCTIONS.contains(&name) {
            let near = nearest(name, FUNCTIONS);
            return self.no_such(expr, name, near, is_method(name));
        }
        let [of] = &call.args[..] else {
            return self.miscounted(expr, name, "one value");
        };
        match name {
            "has" => self.has(of),
            "size" => self.size(of),
            "timestamp" => self.timestamp(of),
            "int" => self.convert(of, Function::Int),
            _ => self.convert(of, Function::Text),
        }
    }

    fn method(&mut self, expr: &IdedExpr, target: &IdedExpr, call: &CallExpr) -> Typed {
        let name = &*call.func_name;
        if let Some(kind) = named(&Macro::NAMES, name) {
            return self.each(expr, kind, target, &call.args);
        }
        if let Some(test) = named(&TextTest::NAMES, name) {
            let text = self.part_of(target, Type::Text);
            let [part] = &call.args[..] else {
                return self.miscounted(expr, name, "one string");
            };
            let part = self.part_of(part, Type::Text);
            return (Node::Test(test, Box::new([text, part])), Type::Bool);
        }
        if let Some(part) = named(&Part::NAMES, name) {
            let of = Box::new(self.part_of(target, Type::Time));
            return match call.args.is_empty() {
                true => (Node::Apply(Function::Part(part), of), Type::Int),
                false => self.miscounted(expr, name, "nothing: times are in UTC"),
            };
        }
        match (name, &call.args[..]) {
            ("size", []) => self.size(target),
            ("size", _) => self.miscounted(expr, name, "nothing"),
            ("matches", [pattern]) => self.matches(target, pattern),
            ("matches", _) => self.miscounted(expr, name, "one pattern"),
            ("lowerAscii", []) => {
                let of = Box::new(self.part_of(target, Type::Text));
                (Node::Apply(Function::Lower, of), Type::Text)
            }
            ("lowerAscii", _) => self.miscounted(expr, name, "nothing"),
            _ => {
                self.part(target);
                self.no_such(
                    expr,
                    name,
                    nearest(name, methods()),
                    FUNCTIONS.contains(&name),
                )
            }
        }
    }

    fn no_such(
        &mut self,
        expr: &IdedExpr,
        name: &str,
        near: Option<&str>,
        otherwise: bool,
    ) -> Typed {
        let range = self.parsed.name(expr);
        let fault = Fault::new(range, format!("conditions have no function `{name}`"));
        self.fault(match otherwise {
            true if is_method(name) => fault.help(format!("write `x.{name}(..)`")),
            true => fault.help(format!("write `{name}(x)`")),
            false => fault.near(near),
        })
    }

    fn miscounted(&mut self, expr: &IdedExpr, name: &str, takes: &str) -> Typed {
        self.fault_at(expr, format!("`{name}` takes {takes}"))
    }

    fn has(&mut self, of: &IdedExpr) -> Typed {
        let Expr::Select(select) = &of.expr else {
            let fault = Fault::new(self.parsed.span(of), "`has` asks for a field by its name");
            let help = "write `has(token.upn)`, or `'x-name' in request.headers`";
            return self.fault(fault.help(help));
        };
        match self.path(of) {
            Path::Field(field, _) => {
                self.reads(&field);
                (Node::Has(field), Type::Bool)
            }
            Path::Wrong => WRONG,
            Path::Other => {
                let (node, kind) = self.part(&select.operand);
                match kind {
                    Type::Wrong => WRONG,
                    Type::Dyn => {
                        let name = select.field.as_str().into();
                        (Node::HasMember(Box::new(node), name), Type::Bool)
                    }
                    _ => {
                        let message = format!("{kind} has no members");
                        self.fault(Fault::new(self.parsed.name(of), message))
                    }
                }
            }
            Path::Room(_) | Path::Map(..) => self.fault_at(of, "this is always there".to_owned()),
        }
    }

    fn size(&mut self, of: &IdedExpr) -> Typed {
        let (node, kind) = self.part(of);
        match kind {
            Type::Wrong => WRONG,
            Type::Text | Type::List(_) | Type::Dyn => {
                (Node::Apply(Function::Size, Box::new(node)), Type::Int)
            }
            _ => self.fault_at(of, format!("{kind} has no size")),
        }
    }

    fn convert(&mut self, of: &IdedExpr, function: Function) -> Typed {
        let (node, kind) = self.part(of);
        let (makes, takes_bool) = match function {
            Function::Int => (Type::Int, false),
            _ => (Type::Text, true),
        };
        match kind {
            Type::Wrong => WRONG,
            Type::Bool if !takes_bool => self.fault_at(of, format!("{kind} is no number")),
            Type::Null | Type::List(_) => self.fault_at(of, format!("{kind} is not {makes}")),
            Type::Bool | Type::Int | Type::Double | Type::Text | Type::Time | Type::Dyn => {
                (Node::Apply(function, Box::new(node)), makes)
            }
        }
    }

    fn timestamp(&mut self, of: &IdedExpr) -> Typed {
        let seconds = literal_text(of).and_then(time::parse);
        match seconds.filter(|seconds| time::write(*seconds).is_some()) {
            Some(seconds) => (Node::Literal(Literal::Time(seconds)), Type::Time),
            None => {
                let message = "this is no date and time of RFC 3339 in whole seconds";
                let fault = Fault::new(self.parsed.span(of), message);
                self.fault(fault.help("write it as in `timestamp('2026-01-31T12:00:00Z')`"))
            }
        }
    }

    fn matches(&mut self, target: &IdedExpr, pattern: &IdedExpr) -> Typed {
        let of = Box::new(self.part_of(target, Type::Text));
        let Some(source) = literal_text(pattern) else {
            return self.fault_at(
                pattern,
                "a pattern must be a string as it stands".to_owned(),
            );
        };
        let regex = RegexBuilder::new(source)
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN)
            .nest_limit(32)
            .build();
        match regex {
            Ok(regex) => {
                let source = source.into();
                (Node::Matches(of, Pattern { source, regex }), Type::Bool)
            }
            Err(error) => {
                let message = format!("this is no pattern: {}", cause(&error));
                self.fault_at(pattern, message)
            }
        }
    }

    fn each(
        &mut self,
        expr: &IdedExpr,
        kind: Macro,
        target: &IdedExpr,
        args: &[IdedExpr],
    ) -> Typed {
        let (over, list) = self.part(target);
        let of = match list {
            Type::List(of) => of.alone(),
            Type::Dyn | Type::Wrong => list,
            _ => {
                return self.fault_at(target, format!("a list is needed here, but this is {list}"));
            }
        };
        let (variable, condition, result) = match (kind, args) {
            (Macro::Map, [variable, result]) => (variable, None, Some(result)),
            (Macro::Map, [variable, condition, result]) => {
                (variable, Some(condition), Some(result))
            }
            (
                Macro::All | Macro::Exists | Macro::ExistsOne | Macro::Filter,
                [variable, condition],
            ) => (variable, Some(condition), None),
            _ => {
                let fault = Fault::new(self.parsed.span(expr), "a macro takes a name and a part");
                return self.fault(fault.help("write it as in `token.roles.exists(r, r == 'a')`"));
            }
        };
        let Some(variable) = self.declare(expr, variable, of) else {
            return WRONG;
        };
        let condition = condition.map(|condition| self.part_of(condition, Type::Bool));
        let result = result.map(|result| self.part(result));
        self.variables.pop();
        let makes = match (kind, &result) {
            (Macro::Map, Some((_, kind))) => Type::List(kind.as_element()),
            (Macro::Filter, _) => Type::List(match list {
                Type::List(of) => of,
                _ => Element::Dyn,
            }),
            _ => Type::Bool,
        };
        let result = result.map(|(node, _)| node);
        let each = Each {
            kind,
            over,
            variable,
            condition,
            result,
        };
        (Node::Each(Box::new(each)), makes)
    }

    /// Takes a macro's variable in. It hides nothing: a name must mean one thing.
    fn declare(&mut self, expr: &IdedExpr, variable: &IdedExpr, kind: Type) -> Option<Box<str>> {
        let Expr::Ident(name) = &variable.expr else {
            self.fault_at(variable, "a macro's variable is a plain name".to_owned());
            return None;
        };
        if self.variables.len() >= DEEPEST_MACROS {
            let range: Range<usize> = self.parsed.name(expr);
            let message = format!("macros stand in each other at most {DEEPEST_MACROS} deep");
            self.fault(Fault::new(range, message));
            return None;
        }
        let taken = self.variables.iter().any(|(known, _)| **known == **name);
        if taken || super::field::ROOMS.contains(&&**name) || name.starts_with('.') {
            self.fault_at(variable, format!("the name `{name}` is taken"));
            return None;
        }
        self.variables.push((name.as_str().into(), kind));
        Some(name.as_str().into())
    }
}

fn methods() -> impl Iterator<Item = &'static str> {
    let macros = Macro::NAMES.iter().map(|(name, _)| *name);
    let tests = TextTest::NAMES.iter().map(|(name, _)| *name);
    let parts = Part::NAMES.iter().map(|(name, _)| *name);
    macros.chain(tests).chain(parts).chain(METHODS)
}

fn is_method(name: &str) -> bool {
    methods().any(|known| known == name)
}

/// What a pattern's error says, without the picture that it draws.
fn cause(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}
