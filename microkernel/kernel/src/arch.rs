//! Machine-dependent mechanism. All assembly and most unsafe code of the kernel is below here.

pub(crate) mod x86_64;
