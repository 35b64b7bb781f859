//! The bytes of the start-up pages.

use alloc::vec::Vec;

use skink_abi::layout::{STARTUP_BYTES, STARTUP_MAGIC, StartupHeader};

use super::SpawnError;
use crate::startup::Startup;

/// Encodes header and blob; `fill` sets the fields of the header that depend on the process.
pub(super) fn encode(
    startup: &Startup,
    fill: impl FnOnce(&mut StartupHeader),
) -> Result<Vec<u8>, SpawnError> {
    let blob = postcard::to_allocvec(startup).map_err(|_| SpawnError::StartupTooLong)?;
    let mut header = StartupHeader {
        magic: STARTUP_MAGIC,
        heap_start: 0,
        heap_bytes: 0,
        state_start: 0,
        state_bytes: 0,
        has_service_page: 0,
        process: 0,
        blob_bytes: u32::try_from(blob.len()).map_err(|_| SpawnError::StartupTooLong)?,
        generation: 0,
    };
    fill(&mut header);
    let mut bytes = header_bytes(&header);
    bytes.extend_from_slice(&blob);
    if bytes.len() as u64 > STARTUP_BYTES {
        return Err(SpawnError::StartupTooLong);
    }
    Ok(bytes)
}

/// Lays the header out as its `repr(C)` does.
fn header_bytes(header: &StartupHeader) -> Vec<u8> {
    let longs = [
        header.magic,
        header.heap_start,
        header.heap_bytes,
        header.state_start,
        header.state_bytes,
    ];
    let words = [
        header.has_service_page,
        header.process,
        header.blob_bytes,
        header.generation,
    ];
    let longs = longs.iter().flat_map(|long| long.to_le_bytes());
    longs
        .chain(words.iter().flat_map(|word| word.to_le_bytes()))
        .collect()
}

#[cfg(test)]
mod tests {
    use core::mem::offset_of;

    use super::*;

    #[test]
    fn header_lies_as_the_program_reads_it() {
        let startup = Startup {
            name: "ls".into(),
            ..Startup::default()
        };
        let bytes = encode(&startup, |header| {
            header.heap_bytes = 0x11;
            header.state_bytes = 0x22;
            header.has_service_page = 1;
            header.process = 0x33;
        })
        .unwrap();
        let long = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        assert_eq!(long(offset_of!(StartupHeader, magic)), STARTUP_MAGIC);
        assert_eq!(long(offset_of!(StartupHeader, heap_bytes)), 0x11);
        assert_eq!(long(offset_of!(StartupHeader, state_bytes)), 0x22);
        assert_eq!(word(offset_of!(StartupHeader, has_service_page)), 1);
        assert_eq!(word(offset_of!(StartupHeader, process)), 0x33);
        let blob = &bytes[size_of::<StartupHeader>()..];
        assert_eq!(
            word(offset_of!(StartupHeader, blob_bytes)) as usize,
            blob.len()
        );
        assert_eq!(postcard::from_bytes::<Startup>(blob).unwrap(), startup);
    }

    #[test]
    fn too_many_arguments_are_refused() {
        let startup = Startup {
            arguments: vec!["x".repeat(65_536)],
            ..Startup::default()
        };
        assert_eq!(encode(&startup, |_| {}), Err(SpawnError::StartupTooLong));
    }
}
