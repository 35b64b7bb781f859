//! Takes over, and answers every request with bytes that mean nothing.
#![cfg_attr(bare, no_std, no_main)]

broken::version!(AnswersRubbish);
