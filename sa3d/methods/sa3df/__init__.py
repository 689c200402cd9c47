"""SA3DF: SA3D with feature distillation from a frozen knowledge teacher."""
