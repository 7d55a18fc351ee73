//! The types of a condition's parts.

use std::fmt;

/// What is known of a value before there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// A part that is at fault already: nothing more is said of it.
    Wrong,
    /// Whatever a token holds: checked when it is read.
    Dyn,
    /// `null`.
    Null,
    /// A truth.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// A string.
    Text,
    /// A timestamp.
    Time,
    /// A list, by what is in it.
    List(Element),
}

/// The type of what is in a list. A list of lists is a list of `Dyn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// Anything.
    Dyn,
    /// Truths.
    Bool,
    /// Whole numbers.
    Int,
    /// Numbers.
    Double,
    /// Strings.
    Text,
    /// Timestamps.
    Time,
}

impl Type {
    /// A list of strings.
    pub(super) const TEXTS: Type = Type::List(Element::Text);

    /// Whether a value of this type can stand where one of `wanted` must.
    pub(super) fn fits(self, wanted: Type) -> bool {
        self == wanted || matches!(self, Type::Dyn | Type::Wrong) || wanted == Type::Wrong
    }

    /// Whether values of the two types can be equal.
    pub(super) fn meets(self, other: Type) -> bool {
        match (self, other) {
            (Type::Dyn | Type::Wrong, _) | (_, Type::Dyn | Type::Wrong) => true,
            (Type::Int, Type::Double) | (Type::Double, Type::Int) => true,
            (Type::List(left), Type::List(right)) => left.alone().meets(right.alone()),
            (
                Type::Null
                | Type::Bool
                | Type::Int
                | Type::Double
                | Type::Text
                | Type::Time
                | Type::List(_),
                _,
            ) => self == other,
        }
    }

    /// Whether values of this type have an order.
    pub(super) fn has_order(self) -> bool {
        match self {
            Type::Wrong | Type::Dyn | Type::Int | Type::Double | Type::Text | Type::Time => true,
            Type::Null | Type::Bool | Type::List(_) => false,
        }
    }

    /// The type of a list's elements once it stands among others of that list.
    pub(super) fn as_element(self) -> Element {
        match self {
            Type::Bool => Element::Bool,
            Type::Int => Element::Int,
            Type::Double => Element::Double,
            Type::Text => Element::Text,
            Type::Time => Element::Time,
            Type::Wrong | Type::Dyn | Type::Null | Type::List(_) => Element::Dyn,
        }
    }
}

impl Element {
    /// The type of one of them.
    pub(super) fn alone(self) -> Type {
        match self {
            Element::Dyn => Type::Dyn,
            Element::Bool => Type::Bool,
            Element::Int => Type::Int,
            Element::Double => Type::Double,
            Element::Text => Type::Text,
            Element::Time => Type::Time,
        }
    }
}

/// The type with its article, for messages.
impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Type::Wrong | Type::Dyn => "a value of any type",
            Type::Null => "null",
            Type::Bool => "a bool",
            Type::Int => "an int",
            Type::Double => "a double",
            Type::Text => "a string",
            Type::Time => "a timestamp",
            Type::List(Element::Dyn) => "a list",
            Type::List(Element::Bool) => "a list of bools",
            Type::List(Element::Int) => "a list of ints",
            Type::List(Element::Double) => "a list of doubles",
            Type::List(Element::Text) => "a list of strings",
            Type::List(Element::Time) => "a list of timestamps",
        })
    }
}
