//! Crashes when it migrates the state.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(CrashesInMigration);
