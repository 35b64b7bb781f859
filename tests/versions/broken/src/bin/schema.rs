//! Knows no way from the state that is there.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(KnowsAnotherSchema);
