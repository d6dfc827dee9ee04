//! stub
#![allow(missing_docs, dead_code)]
use std::time::Duration;
use std::sync::Arc;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State { Closed, Ramping, Open, HalfOpen, ForcedOpen, ForcedClosed }
#[derive(Clone, Debug)]
pub struct BreakerConfig;
impl BreakerConfig { pub fn validate(&self) -> Result<(), String> { Ok(()) } }
#[derive(Clone, Debug)]
pub struct Breaker;
pub enum Refused { Shed, Open }
pub struct Permit;
impl Permit { pub fn success(self){} pub fn failure(self, _: impl Into<String>){} pub fn neutral(self){} pub fn refusal(self,_: impl Into<String>){} }
impl Breaker { pub fn new(_: impl Into<Arc<str>>, _: BreakerConfig, _: crate::clock::Clock)->Self{Self}
 pub fn permit(&self)->Result<Permit,Refused>{Ok(Permit)} pub fn probe(&self)->Option<Permit>{None} pub fn next_probe_in(&self)->Option<Duration>{None} pub fn state(&self)->State{State::Closed} }
