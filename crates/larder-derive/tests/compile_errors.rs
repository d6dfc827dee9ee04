//! Each misuse of `#[derive(Entry)]` has an error of its own, that points at what is wrong and says what to write instead.
//!
//! The files beside this one are the misuses and what the compiler says to them. After a change of wording, run this test
//! with `TRYBUILD=overwrite` and read the difference.
#![allow(missing_docs)]

#[test]
fn misuses_are_told_apart() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*.rs");
}

/// The names of the indexes of a hand-written entry are counted when code is made for it. So these files are built and not only checked, which
/// trybuild does where one of them has to compile.
#[test]
fn indexes_that_keys_cannot_tell_apart_do_not_compile() {
    let tests = trybuild::TestCases::new();
    tests.pass("tests/compile_errors/built/as_many_indexes_as_there_may_be.rs");
    tests.compile_fail("tests/compile_errors/built/one_index_too_many.rs");
    tests.compile_fail("tests/compile_errors/built/no_such_position.rs");
}
