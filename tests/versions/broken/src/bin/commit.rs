//! Crashes as soon as it has taken over.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(CrashesAfterCommit);
