//! Hangs in its self-test.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(HangsInItsTest);
