//! The code blocks of `README.md`, which are compiled and run as documentation tests.
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
