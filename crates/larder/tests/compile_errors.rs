//! Each misuse of `#[derive(Entry)]` has an error of its own, that points at what is wrong and says what to write instead.
//!
//! The files beside this one are the misuses and what the compiler says to them. After a change of wording, run this test
//! with `TRYBUILD=overwrite` and read the difference.
#![allow(missing_docs)]

#[test]
fn misuses_are_told_apart() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}
