//! The x86_64 machine.
//!
//! `entry` is the way in and out of Ring 3, `cpu` what each processor keeps, `paging` the page
//! tables, `apic`/`ioapic` the interrupt controllers, `smp` the start of the other processors.

pub(crate) mod apic;
pub(crate) mod cpu;
pub(crate) mod entry;
pub(crate) mod fpu;
pub(crate) mod ioapic;
pub(crate) mod paging;
pub(crate) mod physical;
pub(crate) mod rtc;
pub(crate) mod serial;
pub(crate) mod smp;
pub(crate) mod tables;
pub(crate) mod time;
