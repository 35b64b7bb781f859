//! Asking a file system by other code than the stub's.
//!
//! Whoever asks here does not trust what the stub of the same method returned. So the method is looked
//! up by its name, and the request goes the way of those that carry handles.

use libipc::proto::file_system::{FileSystemClient, FileSystemSchema, FsError};
use libipc::wire::OutHandles;
use libipc::{Failure, Interface, Protocol};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Calls a method without handles. `A` and `T` are what its interface puts on the wire: the tuples of
/// arguments and of what is returned.
pub(super) fn ask<A, T>(
    client: &FileSystemClient,
    method: &str,
    arguments: &A,
) -> Result<T, Failure<FsError>>
where
    A: Serialize,
    T: Serialize + DeserializeOwned,
{
    let methods = (0_u16..).zip(FileSystemSchema::SCHEMA.methods);
    let number = methods
        .into_iter()
        .find_map(|(number, known)| (known.name == method).then_some(number))
        .ok_or(Protocol::UnknownMethod)?;
    let (reply, handles) = client.client().call::<FileSystemSchema, A, T, FsError>(
        number,
        arguments,
        OutHandles::new(),
    )?;
    handles.close();
    Ok(reply)
}
