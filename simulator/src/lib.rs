//! A simulated inference fleet: engines of many versions with their genuine metric pages, over real HTTP.
