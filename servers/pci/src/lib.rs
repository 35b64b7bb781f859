//! Finds PCI devices and hands their registers and interrupts to drivers.
//!
//! The policy: walking the configuration space ([`scan`]), reading capabilities
//! ([`capabilities`]) and base address registers ([`bars`]), MSI-X ([`Msix`]), and who has which
//! device ([`Claims`]). All of it works on a [`ConfigSpace`], which `main.rs` implements over
//! mapped registers. A device may put anything into its configuration space: what contradicts
//! itself is left out, and no loop it builds there is followed for ever.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod bars;
mod capability;
mod claims;
mod config;
#[cfg(test)]
mod fake;
mod msix;
mod scan;

pub use bars::{Bar, are_in_place, bars};
pub use capability::{RawCapability, capabilities};
pub use claims::{Claimed, Claims, MAX_CLAIMS, Record};
pub use config::{ConfigSpace, Function};
pub use msix::{ENTRY_BYTES, Msix};
pub use scan::{MAX_FUNCTIONS, scan};
