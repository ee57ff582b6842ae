//! The tenant's own key.
//!
//! The service keeps none for a tenant yet: the password of the tenant's role is derived from the installation's key and
//! the tenant's id and rests nowhere. Whoever gives tenants keys destroys them here, and counts them: the certificate says
//! no more than this count.

use serde_json::{Value, json};

/// Destroys the keys that were the tenant's alone, and says how many there were.
pub(super) fn destroy() -> Value {
    json!({ "keys": 0 })
}
