//! Crashes at its start.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(CrashesAtStart);
