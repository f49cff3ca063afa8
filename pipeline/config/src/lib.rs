//! TOML text to typed settings, with every error located in the file.
