//! Which layouts of a state this program knows: its own, and older ones that lead to it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::half::{Half, Header};
use super::recover::recover;
use super::{ExportError, Report, State, StateMemory, encode, shape};

/// What stands before the first version of a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoPrevious {}

/// The version before `Next`: [`NoPrevious`], or any [`State`] that can be made into it.
pub trait Earlier<Next>: Sized {
    /// Returns whether this version or one before it has the schema.
    fn knows(schema: u64) -> bool;

    /// Lists the schemas of this version and those before it, newest first.
    fn schemas() -> Vec<u64>;

    /// Reads what a half holds and makes it into the next version.
    #[doc(hidden)]
    fn recover<M: StateMemory>(found: Found<'_, M>, report: &mut Report) -> Option<Next>;

    /// Encodes a state of this version in its own schema or one of an earlier version.
    ///
    /// # Errors
    ///
    /// As [`Region::export`](super::Region::export).
    #[doc(hidden)]
    fn encode_as(&self, schema: u64) -> Result<Vec<u8>, ExportError>;
}

/// A half with a good header, to be read.
#[derive(Debug)]
pub struct Found<'a, M> {
    pub(super) memory: &'a M,
    pub(super) half: &'a mut Half,
    pub(super) header: Header,
    /// Whether the half before it may stand in for a damaged snapshot.
    pub(super) may_fall_back: bool,
}

impl<Next> Earlier<Next> for NoPrevious {
    fn knows(_schema: u64) -> bool {
        false
    }

    fn schemas() -> Vec<u64> {
        Vec::new()
    }

    fn recover<M: StateMemory>(_found: Found<'_, M>, _report: &mut Report) -> Option<Next> {
        None
    }

    fn encode_as(&self, _schema: u64) -> Result<Vec<u8>, ExportError> {
        match *self {}
    }
}

impl<Next, P: State + Into<Next>> Earlier<Next> for P {
    fn knows(schema: u64) -> bool {
        reads::<P>(schema)
    }

    fn schemas() -> Vec<u64> {
        known_schemas::<P>()
    }

    fn recover<M: StateMemory>(found: Found<'_, M>, report: &mut Report) -> Option<Next> {
        recover::<P, M>(found, report).map(Into::into)
    }

    fn encode_as(&self, schema: u64) -> Result<Vec<u8>, ExportError> {
        encode_as(self, schema)
    }
}

/// Returns the hash of a state's schema: of its name and of the shapes of state and
/// records.
pub fn schema_hash<S: State>() -> u64 {
    // A type without a shape still gets a hash; the golden test of its server fails, though.
    let text = describe::<S>().unwrap_or_else(|error| format!("{}: {error}", S::SCHEMA));
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns the schema of a state as text: what its hash is made of.
///
/// # Errors
///
/// [`Untraceable`](shape::Untraceable) when state or record is of a type that contains itself.
pub fn describe<S: State>() -> Result<String, shape::Untraceable> {
    let state = shape::of::<S>()?;
    let record = shape::of::<S::Record>()?;
    Ok(format!("{}\nstate\n{state}record\n{record}", S::SCHEMA))
}

/// Returns whether a program with this state can open a region with that schema.
pub fn reads<S: State>(schema: u64) -> bool {
    schema == schema_hash::<S>() || S::Previous::knows(schema)
}

/// Lists the schemas that a program with this state can open, its own first.
pub fn known_schemas<S: State>() -> Vec<u64> {
    let mut schemas = S::Previous::schemas();
    schemas.insert(0, schema_hash::<S>());
    schemas
}

/// Encodes a state in its own schema or an earlier one.
pub(super) fn encode_as<S: State>(state: &S, schema: u64) -> Result<Vec<u8>, ExportError> {
    if schema == schema_hash::<S>() {
        return Ok(encode(state)?);
    }
    if !S::Previous::knows(schema) {
        return Err(ExportError::Unknown { target: schema });
    }
    let earlier = state.downgrade().ok_or(ExportError::Refused)?;
    earlier.encode_as(schema)
}
