//! Validators and what tells versions apart.
