//! Between JSON and the values of expressions.
//!
//! A record is read where it lies: only the fields that a rule touches become values. A field that is not there reads
//! as null, because sources leave out what is empty; `has(record.x)` is false for both.

use std::sync::LazyLock;

use cel::{
    ExecutionError,
    common::{
        traits::{Container, Indexer, Sizer},
        types::{CelBool, CelDouble, CelInt, CelList, CelNull, CelString, CelUInt, MAP_TYPE, Type},
        value::{CowVal, Val},
    },
};
use serde_json::Map;

static OBJECT: LazyLock<Type> = LazyLock::new(|| MAP_TYPE);

/// An object of JSON as a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object<'a>(pub(super) &'a Map<String, serde_json::Value>);

impl<'a> Object<'a> {
    fn member(self, name: &dyn Val) -> Option<&'a serde_json::Value> {
        self.0.get(name.downcast_ref::<CelString<'_>>()?.inner())
    }
}

impl Val for Object<'_> {
    fn get_type(&self) -> &Type {
        &OBJECT
    }

    fn cel_type() -> &'static Type {
        &OBJECT
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn into_indexer<'v>(self: Box<Self>) -> Option<Box<dyn Indexer + 'v>>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(*self)
    }
}

impl Indexer for Object<'_> {
    fn get<'b, 'v>(&'b self, name: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(CowVal::Owned(self.member(name).map_or_else(null, to_cel)))
    }

    fn steal<'v>(self: Box<Self>, name: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        Ok(self.member(name).map_or_else(null, to_cel))
    }
}

impl Container for Object<'_> {
    fn contains(&self, name: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.member(name).is_some_and(|value| !value.is_null()))
    }
}

impl Sizer for Object<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.0.len()).unwrap_or(i64::MAX))
    }
}

fn null<'v>() -> Box<dyn Val + 'v> {
    Box::new(CelNull)
}

/// A value of JSON. Texts are borrowed.
pub(super) fn to_cel<'v>(value: &'v serde_json::Value) -> Box<dyn Val + 'v> {
    match value {
        serde_json::Value::Null => null(),
        serde_json::Value::Bool(value) => Box::new(CelBool::from(*value)),
        serde_json::Value::Number(number) => of_number(number),
        serde_json::Value::String(text) => Box::new(CelString::from(text.as_str())),
        serde_json::Value::Array(values) => {
            Box::new(CelList::from(values.iter().map(to_cel).collect::<Vec<_>>()))
        }
        serde_json::Value::Object(members) => Box::new(Object(members)),
    }
}

fn of_number<'v>(number: &serde_json::Number) -> Box<dyn Val + 'v> {
    if let Some(whole) = number.as_i64() {
        return Box::new(CelInt::from(whole));
    }
    if let Some(whole) = number.as_u64() {
        return Box::new(CelUInt::from(whole));
    }
    // Comparisons of fractions are CEL's, which are binary. None is ever written: `to_json` refuses them.
    Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
}

/// What a field can hold: nothing fractional, because a binary fraction is not what the source had.
pub(super) fn to_json(value: &dyn Val) -> Result<serde_json::Value, &'static str> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return Ok(text.inner().into());
    }
    if let Some(value) = value.downcast_ref::<CelBool>() {
        return Ok((*value.inner()).into());
    }
    if let Some(value) = value.downcast_ref::<CelInt>() {
        return Ok((*value.inner()).into());
    }
    if let Some(value) = value.downcast_ref::<CelUInt>() {
        return Ok((*value.inner()).into());
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        let values = list.inner().iter().map(|value| to_json(value.as_ref()));
        return values.collect::<Result<_, _>>().map(serde_json::Value::Array);
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Err("is null: a rule does not empty a field");
    }
    if value.downcast_ref::<CelDouble>().is_some() {
        return Err("is a fractional number: give it as text");
    }
    Err("is nothing that a field can hold: give a text, a whole number, a boolean or a list of them")
}

/// About how many bytes a value of JSON takes.
pub(super) fn weight(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 2,
        serde_json::Value::Array(values) => values.iter().map(weight).sum::<usize>() + 2,
        serde_json::Value::Object(members) => weight_of(members),
        _ => 8,
    }
}

/// About how many bytes an object takes.
pub(super) fn weight_of(members: &Map<String, serde_json::Value>) -> usize {
    members.iter().map(|(name, value)| name.len() + weight(value) + 4).sum::<usize>() + 2
}
