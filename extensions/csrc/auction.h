// One-to-one matching by the auction algorithm with scaling of eps (Bertsekas 1988). Each row
// bids for its cheapest column at the going prices; a round at eps ends within n * eps of the
// optimal total, so the mean distance of the last round is within eps of the best.

struct Offer {
  float best, second;
  int32_t column;
};

// Cheapest and second cheapest of cost + price over `padded` columns (padding: infinite price).
static inline Offer cheapest(const float* cost, const float* price, int64_t padded) {
  constexpr int L = Lanes<float>::count;
  Vec<float> best = splat<float>(infinity<float>), second = best;
  IVec<float> at = isplat<float>(0), here = lane_numbers<float>();
  for (int64_t j = 0; j < padded; j += L) {
    const Vec<float> value = load(cost + j) + load(price + j);
    const auto wins = value < best;
    second = lesser<float>(wins ? best : value, second);
    best = wins ? value : best;
    at = wins ? here : at;
    here += isplat<float>(L);
  }
  Offer offer{best[0], second[0], at[0]};
  for (int i = 1; i < L; ++i) {
    if (best[i] < offer.best) {
      offer.second = std::min(offer.best, second[i]);
      offer.best = best[i];
      offer.column = at[i];
    } else {
      offer.second = std::min(offer.second, best[i]);
    }
  }
  return offer;
}

// Distances of a point to the planes of b; returns the largest.
static inline float cost_row(const float* p, const float* planes, int64_t padded, float* out) {
  constexpr int L = Lanes<float>::count;
  const Vec<float> x = splat(p[0]), y = splat(p[1]), z = splat(p[2]);
  Vec<float> most = splat(0.0f);
  for (int64_t j = 0; j < padded; j += L) {
    const Vec<float> d = squared<float>(load(planes + j), load(planes + padded + j),
                                        load(planes + 2 * padded + j), x, y, z);
    most = greater<float>(d, most);
    store(out + j, d);
  }
  for (int64_t j = 0; j < padded; ++j) out[j] = std::sqrt(out[j]);
  float largest = 0;
  for (int i = 0; i < L; ++i) largest = std::max(largest, most[i]);
  return std::sqrt(largest);
}

static void auction(const float* a, const float* b, int64_t n, float eps, int64_t* out) {
  constexpr int L = Lanes<float>::count;
  const int64_t padded = (n + L - 1) / L * L;
  const bool whole = n <= 4096;  // up to 64 MiB of costs are kept, else rows are recomputed
  std::vector<float> planes(3 * padded), cost(whole ? n * padded : padded), price(padded, 0);
  split(b, n, padded, planes.data());
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    float* row = &cost[whole ? i * padded : 0];
    largest = std::max(largest, cost_row(a + 3 * i, planes.data(), padded, row));
  }
  for (int64_t j = n; j < padded; ++j) price[j] = infinity<float>;
  // Below this step bids vanish in the rounding of the prices and the auction drags on.
  eps = std::max(eps, 1e-5f * largest);
  if (n == 1 || largest == 0) {
    for (int64_t i = 0; i < n; ++i) out[i] = i;
    return;
  }
  std::vector<int32_t> owner(n), column(n), open(n);
  float step = std::max(largest / 32, eps);
  while (true) {
    std::fill(owner.begin(), owner.end(), -1);
    for (int64_t i = 0; i < n; ++i) open[i] = int32_t(n - 1 - i);
    int64_t waiting = n;
    while (waiting) {
      const int32_t row = open[--waiting];
      float* costs = &cost[whole ? row * padded : 0];
      if (!whole) cost_row(a + 3 * row, planes.data(), padded, costs);
      const Offer offer = cheapest(costs, price.data(), padded);
      float& asked = price[offer.column];
      const float bid = asked + ((offer.second - offer.best) + step);
      asked = std::max(bid, std::nextafter(asked, infinity<float>));  // it always rises: it ends
      const int32_t loser = owner[offer.column];
      owner[offer.column] = row;
      column[row] = offer.column;
      if (loser >= 0) open[waiting++] = loser;
    }
    if (step <= eps) break;
    step = std::max(step / 12, eps);
  }
  for (int64_t i = 0; i < n; ++i) out[i] = column[i];
}
