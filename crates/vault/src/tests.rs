//! Values, keys and rotations on a real database, with a keyring and with key services that fail.

mod aws;
mod house;
mod keyring;
mod retiring;
mod rotating;
mod sealing;
mod services;
