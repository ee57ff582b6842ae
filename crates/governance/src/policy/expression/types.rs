//! The types of expressions, as far as they are known before a record is seen.

use std::{collections::BTreeMap, fmt};

/// What stored records have shown of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Texts.
    Text,
    /// Numbers.
    Number,
    /// `true` and `false`.
    Boolean,
    /// Lists.
    List,
    /// Objects.
    Object,
    /// Several kinds, or nothing but null so far.
    Open,
}

/// The fields of the stream that a policy's rules may read.
#[derive(Clone, Debug, Default)]
pub struct Fields(Option<BTreeMap<String, FieldKind>>);

impl Fields {
    /// Any field may be read: for a stored policy, which was checked when it was added.
    #[must_use]
    pub fn any() -> Self {
        Self(None)
    }

    /// Only these may be read.
    #[must_use]
    pub fn only(fields: impl IntoIterator<Item = (String, FieldKind)>) -> Self {
        Self(Some(fields.into_iter().collect()))
    }

    /// The kind of this field; an error with the names there are if there is no such field.
    pub(crate) fn kind(&self, name: &str) -> Result<FieldKind, Vec<&str>> {
        match &self.0 {
            None => Ok(FieldKind::Open),
            Some(known) => known.get(name).copied().ok_or_else(|| known.keys().map(String::as_str).collect()),
        }
    }
}

/// A type. `Any` fits everywhere: what it really is shows at run time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ty {
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    /// Of a record: whole or fractional.
    Number,
    Text,
    Bytes,
    List(&'static Ty),
    Map,
    Moment,
    Duration,
    Type,
    /// A record of the stream.
    Record,
    /// An object whose members are known.
    Members(&'static [(&'static str, Ty)]),
}

impl Ty {
    pub(super) fn of_field(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Text => Self::Text,
            FieldKind::Number => Self::Number,
            FieldKind::Boolean => Self::Bool,
            FieldKind::List => Self::List(&Self::Any),
            FieldKind::Object => Self::Map,
            FieldKind::Open => Self::Any,
        }
    }

    /// Whether a value of this type can be of the other.
    pub(super) fn fits(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, _) | (_, Self::Any) | (Self::List(_), Self::List(_)) => true,
            (a, b) if a.is_number() && b.is_number() => a == b || a == Self::Number || b == Self::Number,
            (a, b) if a.is_object() && b.is_object() => true,
            (a, b) => a == b,
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double | Self::Number)
    }

    fn is_object(self) -> bool {
        matches!(self, Self::Map | Self::Record | Self::Members(_))
    }

    /// What comes of two branches.
    pub(super) fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Any }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "boolean",
            Self::Int => "integer",
            Self::Uint => "unsigned integer",
            Self::Double => "fractional number",
            Self::Number => "number",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::List(_) => "list",
            Self::Map | Self::Members(_) => "object",
            Self::Moment => "moment",
            Self::Duration => "duration",
            Self::Type => "type",
            Self::Record => "record",
        })
    }
}

/// Another record of the stream with the same identity.
const DUPLICATE: Ty = Ty::Members(&[("key", Ty::Text), ("record", Ty::Record)]);
/// A record of another source with the same identity.
const OTHER: Ty =
    Ty::Members(&[("connector", Ty::Text), ("stream", Ty::Text), ("key", Ty::Text), ("record", Ty::Map)]);

/// What a rule can speak of.
pub(super) const VARIABLES: [(&str, Ty); 5] = [
    ("record", Ty::Record),
    ("key", Ty::Text),
    (
        "evidence",
        Ty::Members(&[
            ("duplicates", Ty::List(&DUPLICATE)),
            ("sources", Ty::List(&OTHER)),
            ("orphaned", Ty::List(&Ty::Text)),
        ]),
    ),
    ("now", Ty::Moment),
    ("changed_at", Ty::Moment),
];

/// The names of types, as `type(x) == string` has them.
pub(super) const TYPE_NAMES: [&str; 10] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
