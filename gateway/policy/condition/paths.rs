//! The check of names: what a name with dots stands for, and what is read through it.

use std::ops::Range;

use cel::common::ast::{Expr, IdedExpr, operators};

use super::Fault;
use super::check::{Checker, Typed, WRONG, literal_text};
use super::field::{self, Field, MAPS, NAMED, ROOMS, claim_type, names_in};
use super::node::Node;
use super::types::Type;
use crate::files::nearest;

/// What a name with dots stands for.
pub(super) enum Path {
    /// A variable, which is no value.
    Room(&'static str),
    /// A map of fields, which is no value.
    Map(&'static str, &'static str),
    /// A field.
    Field(Field, Type),
    /// Nothing that there is. That has been said.
    Wrong,
    /// No name, or a member of a value.
    Other,
}

impl Checker<'_> {
    /// Checks a name without dots.
    pub(super) fn identifier(&mut self, expr: &IdedExpr, name: &str) -> Typed {
        if let Some(found) = self.variable(name) {
            return found;
        }
        match self.path(expr) {
            Path::Other => {
                let names = self.variables.iter().map(|(name, _)| &**name);
                let near = nearest(name, names.chain(ROOMS)).map(str::to_owned);
                let message = format!("there is no `{name}`");
                let fault = Fault::new(self.parsed.span(expr), message).near(near.as_deref());
                self.fault(match near {
                    Some(_) => fault,
                    None => fault.help("strings stand in quotes; fields begin with `token`, `request` or `connection`"),
                })
            }
            path => self.path_as_value(expr, path),
        }
    }

    fn variable(&self, name: &str) -> Option<Typed> {
        let mut outwards = self.variables.iter().rev().enumerate();
        let (up, (name, kind)) = outwards.find(|(_, (known, _))| **known == *name)?;
        Some((Node::Variable(name.clone(), up), *kind))
    }

    /// Checks a name with dots.
    pub(super) fn select(&mut self, expr: &IdedExpr) -> Typed {
        match (self.path(expr), &expr.expr) {
            (Path::Other, Expr::Select(select)) => {
                let (of, kind) = self.part(&select.operand);
                match kind {
                    Type::Wrong => WRONG,
                    Type::Dyn => (
                        Node::Member(Box::new(of), select.field.as_str().into()),
                        kind,
                    ),
                    _ => {
                        let message = format!("{kind} has no members");
                        let fault = Fault::new(self.parsed.name(expr), message);
                        self.fault(match kind {
                            Type::Time => fault.help(
                                "ask it: `request.time.getHours()`, `getMinutes()`, `getDayOfWeek()`, `getFullYear()`, in UTC",
                            ),
                            _ => fault,
                        })
                    }
                }
            }
            (path, _) => self.path_as_value(expr, path),
        }
    }

    /// What is read through a name. Not every name is a value.
    pub(super) fn path_as_value(&mut self, expr: &IdedExpr, path: Path) -> Typed {
        let help = match path {
            Path::Field(field, kind) => {
                self.reads(&field);
                return (Node::Read(field, kind), kind);
            }
            Path::Wrong | Path::Other => return WRONG,
            Path::Room(room) => format!("name a field, as in `{room}.{}`", first_of(room)),
            Path::Map(room, map) => {
                format!("name what is in it, as in `{room}.{map}['name']`, or ask for it with `in`")
            }
        };
        let fault = Fault::new(self.parsed.span(expr), "this is no value by itself");
        self.fault(fault.help(help))
    }

    /// Notes that a field is read.
    pub(super) fn reads(&mut self, field: &Field) {
        if !self.fields.contains(field) {
            self.fields.push(field.clone());
        }
    }

    /// What a name with dots stands for.
    pub(super) fn path(&mut self, expr: &IdedExpr) -> Path {
        match &expr.expr {
            Expr::Ident(name) if self.variable(name).is_none() => {
                let room = ROOMS.into_iter().find(|room| room == name);
                room.map_or(Path::Other, Path::Room)
            }
            Expr::Select(select) => match self.path(&select.operand) {
                Path::Room(room) => self.field(room, &select.field, self.parsed.name(expr)),
                Path::Map(_, map) => self.entry(map, &select.field, self.parsed.name(expr)),
                Path::Wrong => Path::Wrong,
                Path::Field(..) | Path::Other => Path::Other,
            },
            Expr::Call(call) if call.func_name == operators::INDEX => match &call.args[..] {
                [of, key] => match (self.path(of), literal_text(key)) {
                    (Path::Map(_, map), Some(name)) => self.entry(map, name, self.parsed.span(key)),
                    (Path::Map(..), None) => {
                        self.fault_at(key, "the name must be a string as it stands".to_owned());
                        Path::Wrong
                    }
                    (Path::Wrong, _) => Path::Wrong,
                    (Path::Room(_) | Path::Field(..) | Path::Other, _) => Path::Other,
                },
                _ => Path::Other,
            },
            _ => Path::Other,
        }
    }

    fn field(&mut self, room: &'static str, name: &str, range: Range<usize>) -> Path {
        if let Some((_, _, field, kind)) = NAMED
            .into_iter()
            .find(|(of, known, _, _)| *of == room && *known == name)
        {
            return Path::Field(field, kind);
        }
        if let Some((room, map)) = MAPS.into_iter().find(|pair| *pair == (room, name)) {
            return Path::Map(room, map);
        }
        if let Some(kind) = claim_type(name).filter(|_| room == "token") {
            return Path::Field(Field::Claim(name.into()), kind);
        }
        let near = nearest(name, names_in(room));
        let fault = Fault::new(range, format!("`{room}` has no `{name}`")).near(near);
        self.fault(match room {
            "token" => fault.help(format!(
                "a claim that has no name of its own here is read as `token.claims['{name}']`"
            )),
            _ => {
                let names: Vec<String> = names_in(room).map(|name| format!("`{name}`")).collect();
                fault.help(format!("it has {}", names.join(", ")))
            }
        });
        Path::Wrong
    }

    /// What a map holds under a name.
    pub(super) fn entry(&mut self, map: &str, name: &str, range: Range<usize>) -> Path {
        let found = match map {
            "claims" => field::claim(name).map(|field| (field, Type::Dyn)),
            "headers" => field::header(name).map(|field| (field, Type::Text)),
            _ => Ok((Field::Parameter(name.into()), Type::Text)),
        };
        match found {
            Ok((field, kind)) => Path::Field(field, kind),
            Err((message, help)) => {
                self.fault(Fault::new(range, message).help(help));
                Path::Wrong
            }
        }
    }
}

fn first_of(room: &str) -> &'static str {
    names_in(room).next().unwrap_or_default()
}
