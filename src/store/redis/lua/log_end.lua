return num(log_end())
