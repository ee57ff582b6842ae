//! One binary for all tests of the whole service.

mod architecture;
mod crash;
