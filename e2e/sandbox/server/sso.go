package server

import (
	"net/http"
	"time"
)

// ssoHandler is the single sign-on: it renews a discharge that it made before, expired or not, when it is given as it
// was made (not bound to a root).
func (s *Server) ssoHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/tokens/refresh", func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Discharge string `json:"discharge_macaroon"`
		}
		if err := readJSON(r, &request); err != nil {
			answerSSOError(w, http.StatusBadRequest, "INVALID_DATA", err.Error())
			return
		}
		renewed, err := s.refresh(request.Discharge)
		if err != nil {
			answerSSOError(w, http.StatusUnauthorized, "INVALID_CREDENTIALS", "Provided token is invalid: "+err.Error())
			return
		}
		answerJSON(w, http.StatusOK, map[string]string{"discharge_macaroon": renewed})
	})
	return mux
}

// refresh returns a new discharge for one that may have expired.
func (s *Server) refresh(text string) (string, error) {
	discharge, err := deserialize(text)
	if err != nil {
		return "", err
	}
	caveats, err := discharge.VerifySignature(s.keys.dischargeKey(discharge.Id()), nil)
	if err != nil {
		return "", err
	}
	who, err := readCaveats(caveats)
	if err != nil {
		return "", err
	}
	who.expires = time.Now().Add(dischargeLife)
	return s.mintDischarge(s.keys, discharge.Id(), who), nil
}

// answerSSOError has the single sign-on's own form of error.
func answerSSOError(w http.ResponseWriter, status int, code, message string) {
	answerJSON(w, status, map[string]any{"code": code, "message": message, "extra": map[string]any{}})
}
