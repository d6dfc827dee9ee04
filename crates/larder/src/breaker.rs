//! stub
/// State
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// closed
    Closed,
}
