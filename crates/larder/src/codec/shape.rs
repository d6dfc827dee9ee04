//! stub
pub(crate) fn describe<T: serde::de::DeserializeOwned>() -> String {
    String::new()
}
