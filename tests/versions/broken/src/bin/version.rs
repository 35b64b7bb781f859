//! Serves another version of the interface, which is not the old one with more methods.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(ServesAnotherVersion);
