//! Rebuilds the crate when a migration changes: `sqlx::migrate!` alone does not see a new file.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
