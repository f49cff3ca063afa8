//! `inferometer version`.

use crate::exit::Exit;
use crate::terminal::answer;

/// Prints the version.
pub(crate) fn version(json: bool) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        answer(&serde_json::json!({ "name": "inferometer", "version": version }).to_string())
    } else {
        answer(&format!("inferometer {version}"))
    }
}
