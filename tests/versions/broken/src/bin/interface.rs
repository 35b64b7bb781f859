//! Serves another interface.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(ServesAnotherInterface);
